package serve

import (
	"io"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// relays are the connections that this host carries to machines and targets on
// other hosts: consoles, published ports, initiators. A host that stands still breaks no
// connection; so they are cut once their VM is not there any more, and their
// clients can come again.
type relays struct {
	mu    sync.Mutex
	open  map[*relay]struct{}
	count map[holdfast.HostID]int // of them
}

type relay struct {
	vm   holdfast.VMID // zero for a target: its host ends what it does not serve any more
	host holdfast.HostID
	cut  func()
}

// add notes a connection; the caller calls done when it has ended. cut may be
// called from any goroutine.
func (r *relays) add(vm holdfast.VMID, host holdfast.HostID, cut func()) (done func()) {
	k := &relay{vm, host, cut}
	r.mu.Lock()
	if r.open == nil {
		r.open, r.count = make(map[*relay]struct{}), make(map[holdfast.HostID]int)
	}
	r.open[k] = struct{}{}
	r.count[host]++
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.forget(k)
	}
}

// forget removes a connection, if it is there. Under the lock.
func (r *relays) forget(k *relay) {
	if _, ok := r.open[k]; !ok {
		return
	}
	delete(r.open, k)
	if r.count[k.host]--; r.count[k.host] == 0 {
		delete(r.count, k.host)
	}
}

// to is how many connections are carried to a host.
func (r *relays) to(host holdfast.HostID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[host]
}

// prune cuts the connections whose VM is no longer at their host, or whose
// host is no longer alive.
func (r *relays) prune(st *cluster.State) {
	r.mu.Lock()
	var over []*relay
	for k := range r.open {
		vm, ok := st.VMs[k.vm]
		if moved := !k.vm.IsZero() && (!ok || vm.Val.Host != k.host); moved || !st.AliveHost(k.host) {
			over = append(over, k)
			r.forget(k)
		}
	}
	r.mu.Unlock()
	for _, k := range over {
		k.cut()
	}
}

// relayed is a connection that is noted among the relays until it is closed.
type relayed struct {
	io.ReadWriteCloser
	done func()
}

// Close implements io.Closer.
func (r *relayed) Close() error {
	r.done()
	return r.ReadWriteCloser.Close()
}

const pruneEvery = time.Second

// endLostConnections cuts what the loss or the move of a machine has left open.
func (h *Host) endLostConnections(m *member) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.done:
			return
		case <-tick.C:
		}
		if st := m.node.Cluster.State(); st.Rev > 0 {
			m.streams.closeFrom(st.AliveHost)
			m.relays.prune(st)
		}
	}
}
