package iscsi

import (
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// batch is output that one write will carry: any number of whole PDUs. Its
// cost is a share of the session's memory, given back once it is written.
type batch struct {
	buffer.Batch
	headerDigest, dataDigest bool
}

// add appends one PDU. It reports whether data is referred to, not copied:
// then it must stay as it is until the batch is written.
func (b *batch) add(h *pdu.Header, data []byte) (refers bool) {
	h.SetDataLength(len(data))
	b.Buf = append(b.Buf, h[:]...)
	if b.headerDigest {
		b.Buf = pdu.AppendDigest(b.Buf, h[:])
	}
	refers = b.Payload(data)
	if len(data) > 0 {
		var zero [3]byte
		pad := zero[:pdu.Padding(len(data))]
		b.Buf = append(b.Buf, pad...)
		if b.dataDigest {
			b.Buf = pdu.AppendDigest(b.Buf, data, pad)
		}
	}
	return refers
}
