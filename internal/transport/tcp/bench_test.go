package tcp

import (
	"fmt"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/transport/transporttest"
)

// BenchmarkCall sends 4 KiB writes from one host to another over loopback TLS
// and gets an empty reply, as replication does.
func BenchmarkCall(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("4KiB/depth=%d", depth), func(b *testing.B) { benchmarkCall(b, depth) })
	}
}

func benchmarkCall(b *testing.B, depth int) {
	const write transport.Kind = 1
	l := newLab(b)
	here, there := l.open(b, transporttest.Host(1)), l.open(b, transporttest.Host(2))
	there.Handle(write, func(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
		reply(transport.Frame{Head: f.Head[:16]}, nil)
	})
	for _, h := range []host{here, there} {
		if err := h.Start(); err != nil {
			b.Fatal(err)
		}
	}
	f := transport.Frame{Kind: write, Head: make([]byte, 64), Bulk: [][]byte{make([]byte, 4096)}}
	if _, err := transport.Call(clock.System{}, here, transporttest.Host(2), f, clock.Forever); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4096)
	b.ReportAllocs()
	b.ResetTimer()
	slots := make(chan struct{}, depth)
	done := func(_ transport.Frame, err error) {
		if err != nil {
			b.Error(err)
		}
		<-slots
	}
	for range b.N {
		slots <- struct{}{}
		here.Send(transporttest.Host(2), f, 5e9, done)
	}
	for range depth { // wait for the last
		slots <- struct{}{}
	}
	b.StopTimer()
	here.Close()
	there.Close()
}
