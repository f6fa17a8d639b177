package pdu

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzPDU reads any bytes as PDUs: nothing beyond the limits is taken, and the
// reader ends with its input.
func FuzzPDU(f *testing.F) {
	var h Header
	h.SetOp(Command)
	h.SetDataLength(5)
	f.Add(append(h[:], 1, 2, 3, 4, 5, 0, 0, 0), false, false)
	f.Add(AppendDigest(h[:], h[:]), true, true)
	h[4] = 2
	f.Add(append(h[:], 0, 5, 1, 0, 1, 2, 3, 4), false, true)
	f.Fuzz(func(t *testing.T, b []byte, headers, data bool) {
		r := Reader{R: bufio.NewReader(bytes.NewReader(b)), HeaderDigest: headers, DataDigest: data, MaxData: 1 << 12}
		for {
			var h Header
			ahs, err := r.Next(&h)
			if err != nil {
				return
			}
			if len(ahs) > maxAHS || h.DataLength() > r.MaxData {
				t.Fatalf("took %d bytes of AHS and %d of data", len(ahs), h.DataLength())
			}
			if cdb, ok := ExtendedCDB(ahs); ok && len(cdb) > MaxExtraCDB {
				t.Fatalf("an extended CDB of %d bytes", len(cdb))
			}
			if h[1]&1 == 0 {
				err = r.Skip()
			} else {
				err = r.Data(make([]byte, h.DataLength()))
			}
			if err != nil && err != ErrDataDigest {
				return
			}
		}
	})
}

// FuzzText reads any bytes as text keys; what was read is written the same.
func FuzzText(f *testing.F) {
	f.Add([]byte("InitiatorName=iqn.x:y\x00HeaderDigest=CRC32C,None\x00\x00"))
	f.Add([]byte("a=\x00=b\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pairs, err := ParseText(b)
		if err != nil {
			return
		}
		var again []byte
		for _, p := range pairs {
			Number(p.Value, 0, 1<<20)
			Choose(p.Value, "CRC32C", "None")
			ValidName(p.Value)
			again = AppendPair(again, p.Key, p.Value)
		}
		got, err := ParseText(again)
		if err != nil || len(got) != len(pairs) {
			t.Fatalf("%d pairs became %d, %v", len(pairs), len(got), err)
		}
	})
}
