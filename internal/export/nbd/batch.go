package nbd

import "github.com/holdfast-cloud/holdfast/internal/export/buffer"

// batch is output that one write will carry: any number of whole replies. Its
// cost is their share of the window, in bytes.
type batch struct {
	buffer.Batch
	count int // requests answered
}

// reset makes the batch empty and gives its payloads back.
func (b *batch) reset(p *buffer.Pool) {
	b.Batch.Reset(p)
	b.count = 0
}
