package initiator

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// Config says how to log in. The zero values of the numbers leave a key out.
type Config struct {
	Name   string // of the initiator
	Target string // "" for a discovery session
	ISID   [6]byte
	// CHAP, if User is set; with MutualUser, both ways.
	User, Secret             string
	MutualUser, MutualSecret string
	Algorithm                string // CHAP_A; default "7"
	// Operational keys to offer, in order; nil for the usual ones.
	Keys []pdu.Pair
	// Digests asks for both digests.
	Digests bool
}

// usual are the keys offered if Config has none.
func usual() []pdu.Pair {
	return []pdu.Pair{
		{Key: "MaxConnections", Value: "8"}, {Key: "InitialR2T", Value: "No"}, {Key: "ImmediateData", Value: "Yes"},
		{Key: "MaxBurstLength", Value: "1048576"}, {Key: "FirstBurstLength", Value: "65536"}, {Key: "MaxOutstandingR2T", Value: "4"},
		{Key: "MaxRecvDataSegmentLength", Value: "262144"}, {Key: "ErrorRecoveryLevel", Value: "0"},
		{Key: "DefaultTime2Wait", Value: "0"}, {Key: "DefaultTime2Retain", Value: "20"},
		{Key: "DataPDUInOrder", Value: "Yes"}, {Key: "DataSequenceInOrder", Value: "Yes"},
	}
}

// Refused is a login that the target answered with a status.
type Refused struct{ Status uint16 }

// Error implements error.
func (r *Refused) Error() string {
	return fmt.Sprintf("the target refused the login with status %#04x", r.Status)
}

// Login logs in over nc and returns the new session with its connection.
func Login(nc net.Conn, cfg Config) (*Session, error) {
	s := &Session{cfg: cfg, pending: map[uint32]*call{}, cmdSN: 1}
	s.settled.L = &s.mu
	if err := s.connect(nc, 0); err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

// Add adds a connection to the session.
func (s *Session) Add(nc net.Conn) error {
	if err := s.connect(nc, uint16(len(s.conns))); err != nil {
		nc.Close()
		return err
	}
	return nil
}

// exchange is a login under way.
type exchange struct {
	s       *Session
	c       *conn
	cid     uint16
	answers map[string]string
	statSN  uint32
}

func (s *Session) connect(nc net.Conn, cid uint16) error {
	c, err := s.negotiate(nc, cid)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	s.readers.Add(1)
	go c.read()
	return nil
}

// negotiate logs a connection in.
func (s *Session) negotiate(nc net.Conn, cid uint16) (*conn, error) {
	c := &conn{s: s, nc: nc, r: pdu.Reader{R: bufio.NewReaderSize(nc, 64<<10), MaxData: 1 << 24}, sendMax: 8192}
	x := &exchange{s: s, c: c, cid: cid, answers: map[string]string{}}
	names := []pdu.Pair{{Key: "InitiatorName", Value: s.cfg.Name}}
	if s.cfg.Target == "" {
		names = append(names, pdu.Pair{Key: "SessionType", Value: "Discovery"})
	} else {
		names = append(names, pdu.Pair{Key: "SessionType", Value: "Normal"}, pdu.Pair{Key: "TargetName", Value: s.cfg.Target})
	}
	if s.cfg.User != "" {
		if err := x.security(names); err != nil {
			return nil, err
		}
		names = nil
	}
	keys := s.cfg.Keys
	if keys == nil {
		keys = usual()
	}
	if s.cfg.Digests {
		keys = append(keys, pdu.Pair{Key: "HeaderDigest", Value: "CRC32C,None"}, pdu.Pair{Key: "DataDigest", Value: "CRC32C,None"})
	}
	if err := x.round(pdu.StageOperational, pdu.StageFull, true, append(names, keys...)); err != nil {
		return nil, err
	}
	if s.cfg.Digests {
		c.r.HeaderDigest, c.r.DataDigest = x.answers["HeaderDigest"] == "CRC32C", x.answers["DataDigest"] == "CRC32C"
	}
	if len(s.conns) == 0 {
		s.settle(x.answers)
	}
	c.sendMax = x.number("MaxRecvDataSegmentLength", 8192)
	c.expStatSN = x.statSN
	return c, nil
}

// settle notes the session's parameters.
func (s *Session) settle(a map[string]string) {
	x := exchange{answers: a}
	s.Answers = a
	s.firstBurst = x.number("FirstBurstLength", 65536)
	s.immediate = a["ImmediateData"] != "No"
	s.initialR2T = a["InitialR2T"] != "No"
}

func (x *exchange) number(key string, def int) int {
	if n, err := strconv.Atoi(x.answers[key]); err == nil {
		return n
	}
	return def
}

// security is the CHAP exchange.
func (x *exchange) security(names []pdu.Pair) error {
	cfg := x.s.cfg
	if err := x.round(pdu.StageSecurity, pdu.StageSecurity, false, append(names, pdu.Pair{Key: "AuthMethod", Value: "CHAP,None"})); err != nil {
		return err
	}
	if x.answers["AuthMethod"] != "CHAP" {
		return x.round(pdu.StageSecurity, pdu.StageOperational, true, nil)
	}
	alg := cfg.Algorithm
	if alg == "" {
		alg = "7"
	}
	if err := x.round(pdu.StageSecurity, pdu.StageSecurity, false, []pdu.Pair{{Key: "CHAP_A", Value: alg}}); err != nil {
		return err
	}
	id, _ := strconv.Atoi(x.answers["CHAP_I"])
	proof, err := respond(x.answers["CHAP_A"], byte(id), cfg.Secret, x.answers["CHAP_C"])
	if err != nil {
		return err
	}
	keys := []pdu.Pair{{Key: "CHAP_N", Value: cfg.User}, {Key: "CHAP_R", Value: proof}}
	if cfg.MutualUser != "" {
		keys = append(keys, pdu.Pair{Key: "CHAP_I", Value: "77"}, pdu.Pair{Key: "CHAP_C", Value: "0x00112233445566778899aabbccddeeff"})
	}
	alg = x.answers["CHAP_A"]
	if err := x.round(pdu.StageSecurity, pdu.StageOperational, true, keys); err != nil {
		return err
	}
	if cfg.MutualUser == "" {
		return nil
	}
	want, err := respond(alg, 77, cfg.MutualSecret, "0x00112233445566778899aabbccddeeff")
	if err != nil {
		return err
	}
	if x.answers["CHAP_N"] != cfg.MutualUser || x.answers["CHAP_R"] != want {
		return holdfast.Errorf(holdfast.Denied, "the target does not know its own secret")
	}
	return nil
}

func respond(alg string, id byte, secret, challenge string) (string, error) {
	if len(challenge) < 2 {
		return "", holdfast.Errorf(holdfast.Invalid, "the target sent no challenge")
	}
	c, err := hex.DecodeString(challenge[2:])
	if err != nil {
		return "", holdfast.Errorf(holdfast.Invalid, "the challenge is malformed: %w", err)
	}
	b := append(append([]byte{id}, secret...), c...)
	switch alg {
	case "5":
		d := md5.Sum(b)
		return "0x" + hex.EncodeToString(d[:]), nil
	case "7":
		d := sha256.Sum256(b)
		return "0x" + hex.EncodeToString(d[:]), nil
	}
	return "", holdfast.Errorf(holdfast.Invalid, "CHAP algorithm %q is not known here", alg)
}

// round sends one login request and takes its answer.
func (x *exchange) round(now, next byte, transit bool, keys []pdu.Pair) error {
	var text []byte
	for _, k := range keys {
		text = pdu.AppendPair(text, k.Key, k.Value)
	}
	var h pdu.Header
	h[0] = byte(pdu.LoginRequest) | pdu.Immediate
	h[1] = now << 2
	if transit {
		h[1] |= pdu.Transit | next
	}
	copy(h[pdu.AtISID:], x.s.cfg.ISID[:])
	h.SetHalf(pdu.AtTSIH, x.s.tsih)
	h.SetHalf(pdu.AtCID, x.cid)
	h.SetWord(pdu.AtCmdSN, x.s.cmdSN)
	h.SetWord(pdu.AtExpStatSN, x.statSN)
	if err := x.c.send(&h, text); err != nil {
		return err
	}
	var r pdu.Header
	if _, err := x.c.r.Next(&r); err != nil {
		return err
	}
	data := make([]byte, r.DataLength())
	if err := x.c.r.Data(data); err != nil {
		return err
	}
	if r.Op() != pdu.LoginResponse {
		return holdfast.Errorf(holdfast.Invalid, "opcode %#x came instead of a login response", byte(r.Op()))
	}
	x.statSN = r.Word(pdu.AtStatSN) + 1
	if st := r.Half(pdu.AtLoginStatus); st != 0 {
		return &Refused{st}
	}
	pairs, err := pdu.ParseText(data)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		x.answers[p.Key] = p.Value
	}
	if transit && r.Flags()&pdu.Transit == 0 {
		return holdfast.Errorf(holdfast.Denied, "the target does not go on to the next stage")
	}
	if transit && next == pdu.StageFull && len(x.s.conns) == 0 {
		x.s.tsih = r.Half(pdu.AtTSIH)
		x.s.maxCmdSN = r.Word(pdu.AtMaxCmdSN)
	}
	return nil
}

// Enter logs in over nc and leaves the connection to the caller, who then
// speaks for himself.
func Enter(nc net.Conn, cfg Config) error {
	s := &Session{cfg: cfg, pending: map[uint32]*call{}, cmdSN: 1}
	s.settled.L = &s.mu
	_, err := s.negotiate(nc, 0)
	return err
}
