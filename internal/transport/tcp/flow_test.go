package tcp

import (
	"bytes"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
)

// Readers answer and send on what they read. Frames of all sizes, each causing
// the next, in both directions of one connection and more than its sockets
// hold, must neither stop nor be torn.
func TestReadersThatSendDoNotWaitForEachOther(t *testing.T) {
	const echo transport.Kind = 1
	const flying, each = 24, 12
	l := newLab(t)
	here, there := l.open(t, transporttest.Host(1)), l.open(t, transporttest.Host(2))
	there.Handle(echo, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		reply(transport.Frame{Head: f.Head, Bulk: f.Bulk}, nil)
	})
	for _, h := range []host{here, there} {
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for i := range flying {
		all.Add(1)
		left, size := each, i*i*i*11%(1<<19)
		head := []byte{byte(i)}
		var next func()
		next = func() {
			bulk := bytes.Repeat([]byte{byte(i), byte(left)}, size/2)
			here.Send(transporttest.Host(2), transport.Frame{Kind: echo, Head: head, Bulk: [][]byte{bulk}}, clock.Forever, func(f transport.Frame, err error) {
				switch {
				case err != nil:
					t.Errorf("call %d: %v", i, err)
				case !bytes.Equal(f.Head, head) || f.BulkLen() != len(bulk) || len(bulk) > 0 && !bytes.Equal(f.Bulk[0], bulk):
					t.Errorf("call %d: the echo of %d bytes is another", i, len(bulk))
				case left > 1:
					left, size = left-1, (size*7+131)%(1<<19)
					next()
					return
				}
				all.Done()
			})
		}
		next()
	}
	all.Wait()
	here.Close()
	there.Close()
}
