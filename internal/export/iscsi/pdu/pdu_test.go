package pdu

import (
	"bufio"
	"bytes"
	"errors"
	"testing"
)

// RFC 7143 appendix A.4 gives digests of known data, in the order of the bytes
// on the wire.
func TestDigestsOfTheRFC(t *testing.T) {
	up, down := make([]byte, 32), make([]byte, 32)
	for i := range up {
		up[i], down[i] = byte(i), byte(31-i)
	}
	for _, x := range []struct {
		data []byte
		want [4]byte
	}{
		{make([]byte, 32), [4]byte{0xaa, 0x36, 0x91, 0x8a}},
		{bytes.Repeat([]byte{0xff}, 32), [4]byte{0x43, 0xab, 0xa8, 0x62}},
		{up, [4]byte{0x4e, 0x79, 0xdd, 0x46}},
		{down, [4]byte{0x5c, 0xdb, 0x3f, 0x11}},
	} {
		if got := [4]byte(AppendDigest(nil, x.data[:10], x.data[10:])); got != x.want {
			t.Errorf("digest % x, want % x", got, x.want)
		}
	}
}

func TestADamagedPDUIsNoticed(t *testing.T) {
	var h Header
	h.SetOp(DataOut)
	h.SetDataLength(6)
	whole := AppendDigest(bytes.Clone(h[:]), h[:])
	data := []byte{1, 2, 3, 4, 5, 6}
	whole = AppendDigest(append(append(whole, data...), 0, 0), data, []byte{0, 0})
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		r := Reader{R: bufio.NewReader(bytes.NewReader(b)), HeaderDigest: true, DataDigest: true, MaxData: 100}
		var got Header
		_, err := r.Next(&got)
		if i < HeaderSize+4 {
			if err == nil {
				t.Errorf("byte %d changed in the header: not noticed", i)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Data(make([]byte, 6)); !errors.Is(err, ErrDataDigest) {
			t.Errorf("byte %d changed in the data: %v", i, err)
		}
	}
}

func TestNumbersAndNames(t *testing.T) {
	for s, want := range map[string]bool{"1": true, "0x10": true, "0X1f": true, "": false, "+1": false, "-1": false, "1_0": false, "0x": false, "256": false, " 1": false} {
		if _, ok := Number(s, 1, 255); ok != want {
			t.Errorf("%q is a number from 1 to 255: %v", s, ok)
		}
	}
	for s, want := range map[string]bool{"iqn.2026-11.cloud.holdfast:a": true, "eui.0123456789ABCDEF": true, "naa.5": true, "iqn.A": false, "iqn.a b": false, "x": false, "": false} {
		if ValidName(s) != want {
			t.Errorf("%q is an iSCSI name: %v", s, !want)
		}
	}
}
