package guestnet

import (
	"encoding/binary"
	"net/netip"
)

// The parts of DHCP that one guest with one fixed address needs (RFC 2131,
// options of RFC 2132).

const (
	dhcpHeader  = 236 // bytes before the magic cookie
	dhcpCookie  = 0x63825363
	dhcpMaxSize = 1500
	leaseTime   = 86400 // seconds; the address is the guest's for ever
)

// DHCP options and message types.
const (
	optMask      = 1
	optRouter    = 3
	optDNS       = 6
	optMTU       = 26
	optRequested = 50
	optLease     = 51
	optType      = 53
	optServer    = 54
	optEnd       = 255

	typeDiscover = 1
	typeOffer    = 2
	typeRequest  = 3
	typeAck      = 5
	typeNak      = 6
	typeInform   = 8
)

// dhcpReply answers a client's message; nil means that there is nothing to say
// to it.
func dhcpReply(req []byte) []byte {
	be := binary.BigEndian
	if len(req) < dhcpHeader+4 || len(req) > dhcpMaxSize || req[0] != 1 || req[1] != 1 || req[2] != 6 ||
		be.Uint32(req[dhcpHeader:]) != dhcpCookie {
		return nil
	}
	opts := dhcpOptions(req[dhcpHeader+4:])
	if len(opts[optType]) != 1 {
		return nil
	}
	if id := opts[optServer]; id != nil && netip.AddrFrom4(gateway.As4()) != addr4(id) {
		return nil // meant for another server
	}
	answer := byte(typeAck)
	switch opts[optType][0] {
	case typeDiscover:
		answer = typeOffer
	case typeRequest:
		wanted := opts[optRequested]
		if wanted == nil {
			wanted = req[12:16] // renewing: ciaddr
		}
		if addr4(wanted) != guest {
			answer = typeNak
		}
	case typeInform:
	default:
		return nil
	}
	r := make([]byte, dhcpHeader, 300)
	r[0], r[1], r[2] = 2, 1, 6
	copy(r[4:8], req[4:8])     // transaction
	copy(r[10:12], req[10:12]) // flags
	copy(r[28:44], req[28:44]) // client's hardware address
	if answer != typeNak && opts[optType][0] != typeInform {
		copy(r[16:20], guest.AsSlice())
	}
	copy(r[20:24], gateway.AsSlice())
	r = be.AppendUint32(r, dhcpCookie)
	r = append(r, optType, 1, answer)
	r = append(append(r, optServer, 4), gateway.AsSlice()...)
	if answer != typeNak {
		r = append(r, optMask, 4, 255, 255, 255, 0)
		r = append(append(r, optRouter, 4), gateway.AsSlice()...)
		r = append(append(r, optDNS, 4), gateway.AsSlice()...)
		r = append(r, optMTU, 2, mtu>>8, mtu&0xff)
		r = be.AppendUint32(append(r, optLease, 4), leaseTime)
	}
	r = append(r, optEnd)
	for len(r) < 300 { // old clients expect BOOTP's size
		r = append(r, 0)
	}
	return r
}

// dhcpOptions splits options; what is cut short ends them.
func dhcpOptions(b []byte) map[byte][]byte {
	opts := make(map[byte][]byte)
	for len(b) > 0 && b[0] != optEnd {
		if b[0] == 0 { // padding
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			break
		}
		opts[b[0]] = b[2 : 2+int(b[1])]
		b = b[2+int(b[1]):]
	}
	return opts
}

func addr4(b []byte) netip.Addr {
	if len(b) != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}
