package guestnet

import (
	"encoding/binary"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

const (
	mtu      = 1500
	maxFrame = 65536 // QEMU never sends more; a guest with offloads may try
	minFrame = 14    // an Ethernet header
)

// readFrame reads one frame into buf, which has maxFrame bytes.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < minFrame || n > maxFrame {
		return nil, holdfast.Errorf(holdfast.Invalid, "a frame of %d bytes", n)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// appendFrame appends a frame and its length.
func appendFrame(b, frame []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(frame)))
	return append(b, frame...)
}
