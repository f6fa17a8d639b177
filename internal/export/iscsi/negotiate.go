package iscsi

import (
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// params are the operational parameters of a session and a connection
// (RFC 7143 §13), at first their defaults.
type params struct {
	// of the connection
	headerDigest, dataDigest bool
	sendData                 int // the initiator's MaxRecvDataSegmentLength
	// of the session
	maxConnections int
	initialR2T     bool
	immediateData  bool
	maxBurst       int
	firstBurst     int
	outstandingR2T int
}

func defaultParams() params {
	return params{sendData: 8192, maxConnections: 1, initialR2T: true, immediateData: true,
		maxBurst: 262144, firstBurst: 65536, outstandingR2T: 1}
}

// negotiation answers operational keys.
type negotiation struct {
	params
	lim       Limits
	discovery bool
	leading   bool            // the session's first connection
	seen      map[string]bool // keys of this login; a second time is an error
	declared  bool            // our MaxRecvDataSegmentLength was told
	answers   []byte
}

func (n *negotiation) say(key, value string) { n.answers = pdu.AppendPair(n.answers, key, value) }

// Values that answer a key instead of a result.
const (
	reject        = "Reject"
	irrelevant    = "Irrelevant"
	notUnderstood = "NotUnderstood"
)

// operational answers one key. ok is false if the initiator broke the rules.
func (n *negotiation) operational(key, value string) (ok bool) {
	if n.seen[key] {
		return false
	}
	n.seen[key] = true
	switch key {
	case "HeaderDigest":
		return n.digest(key, value, &n.headerDigest)
	case "DataDigest":
		return n.digest(key, value, &n.dataDigest)
	case "MaxRecvDataSegmentLength":
		v, good := pdu.Number(value, 512, 1<<24-1)
		if !good {
			n.say(key, reject)
			return true
		}
		n.sendData = int(v)
		return true // declared, not negotiated
	case "MaxConnections":
		return n.least(key, value, &n.maxConnections, 1, 65535, n.lim.PerSession)
	case "MaxBurstLength":
		return n.least(key, value, &n.maxBurst, 512, 1<<24-1, maxBurst)
	case "FirstBurstLength":
		return n.least(key, value, &n.firstBurst, 512, 1<<24-1, firstBurst)
	case "MaxOutstandingR2T":
		return n.least(key, value, &n.outstandingR2T, 1, 65535, maxOutstanding)
	case "InitialR2T":
		return n.boolean(key, value, &n.initialR2T, func(o bool) bool { return o })
	case "ImmediateData":
		return n.boolean(key, value, &n.immediateData, func(o bool) bool { return o })
	case "DataPDUInOrder", "DataSequenceInOrder":
		var always bool
		return n.boolean(key, value, &always, func(bool) bool { return true })
	case "IFMarker", "OFMarker":
		var never bool
		return n.boolean(key, value, &never, func(bool) bool { return false })
	case "IFMarkInt", "OFMarkInt":
		n.say(key, irrelevant)
	case "DefaultTime2Wait":
		var v int
		return n.number(key, value, &v, 0, 3600, func(o int) int { return max(o, 0) })
	case "DefaultTime2Retain", "ErrorRecoveryLevel":
		var v int
		return n.number(key, value, &v, 0, 3600, func(int) int { return 0 })
	case "TaskReporting":
		if c := pdu.Choose(value, "ResponseFence", "RFC3720"); c != "" {
			n.say(key, c)
		} else {
			n.say(key, reject)
		}
	case "iSCSIProtocolLevel":
		var v int
		return n.number(key, value, &v, 0, 31, func(o int) int { return min(o, 1) })
	default:
		n.say(key, notUnderstood)
	}
	return true
}

func (n *negotiation) digest(key, value string, on *bool) bool {
	c := pdu.Choose(value, "CRC32C", "None")
	if c == "" {
		n.say(key, reject)
		return true
	}
	*on = c == "CRC32C"
	n.say(key, c)
	return true
}

func (n *negotiation) least(key, value string, v *int, lo, hi, most int) bool {
	return n.number(key, value, v, lo, hi, func(o int) int { return min(o, most) })
}

// number negotiates a numerical key. What belongs to the session is settled by
// its first connection; later ones and discovery are told so.
func (n *negotiation) number(key, value string, v *int, lo, hi int, result func(offer int) int) bool {
	if n.ofSession(key) && (n.discovery || !n.leading) && key != "DefaultTime2Wait" && key != "DefaultTime2Retain" && key != "ErrorRecoveryLevel" {
		n.say(key, irrelevant)
		return true
	}
	o, good := pdu.Number(value, uint64(lo), uint64(hi))
	if !good {
		n.say(key, reject)
		return true
	}
	*v = result(int(o))
	n.say(key, strconv.Itoa(*v))
	return true
}

func (n *negotiation) boolean(key, value string, v *bool, result func(offer bool) bool) bool {
	switch {
	case n.discovery || !n.leading:
		n.say(key, irrelevant)
	case value != "Yes" && value != "No":
		n.say(key, reject)
	default:
		*v = result(value == "Yes")
		n.say(key, map[bool]string{true: "Yes", false: "No"}[*v])
	}
	return true
}

// ofSession reports whether a key is settled once for the whole session.
func (n *negotiation) ofSession(key string) bool {
	return !strings.HasSuffix(key, "Digest")
}

// finish declares what this end has to, in the first answer that has room.
func (n *negotiation) declare() {
	if !n.declared {
		n.declared = true
		n.say("MaxRecvDataSegmentLength", strconv.Itoa(maxRecv))
	}
}

// settle makes the parameters agree with each other: FirstBurstLength must not
// exceed MaxBurstLength (§13.14).
func (n *negotiation) settle() params {
	p := n.params
	p.firstBurst = min(p.firstBurst, p.maxBurst)
	return p
}
