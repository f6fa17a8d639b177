package serve

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/qemu"
)

// Times of asking whether the control plane was rebuilt without this host.
const (
	askEvery   = 5 * time.Second
	askAtFirst = 500 * time.Millisecond // before a host begins its work
	askAgain   = time.Second            // of one that has stopped it
)

// laterIncarnation asks the members whether one is in a later incarnation of the
// control plane than this host, by the certificates that they show.
func laterIncarnation(ctx context.Context, ms membership, creds auth.Credentials) (later int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, addr := range ms.APIs {
		wg.Go(func() {
			if id, ok := whoAnswers(ctx, addr, creds); ok && id.Kind == auth.Host && id.Incarnation > ms.Incarnation {
				mu.Lock()
				later = max(later, id.Incarnation)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return later
}

// askEnded stops this host's work when it meets a later incarnation of the
// control plane: what it would still do is of a cluster that has ended. It ends
// with the member.
func (h *Host) askEnded(m *member) {
	for {
		select {
		case <-m.done:
			return
		case <-time.After(askEvery):
		}
		if m.node.Cluster.State().Moved != nil {
			continue // it follows, with its machines
		}
		ms := *m.ms.Load()
		ctx, cancel := context.WithTimeout(context.Background(), askEvery)
		later := laterIncarnation(ctx, ms, m.creds)
		cancel()
		if later == 0 {
			continue
		}
		h.log.Error("the control plane was rebuilt without this host, which stops its work", "incarnation", later)
		if err := h.remember(m, func(ms *membership) { ms.Ended = later }); err != nil {
			h.log.Error("that could not be written down", "error", err)
		}
		h.restart(nil)
		return
	}
}

// ended reports whether the incarnation that a host is in has ended, as was
// written down, or as the others say now.
func (h *Host) ended(ms *membership) bool {
	if ms.Ended > ms.Incarnation {
		return true
	}
	creds, err := auth.LoadCredentials(h.dir.file("pki"), ms.credential())
	if err != nil || len(ms.APIs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), askAtFirst)
	defer cancel()
	later := laterIncarnation(ctx, *ms, creds)
	if later == 0 {
		return false
	}
	ms.Ended = later
	if err := h.dir.write("cluster.json", *ms); err != nil {
		h.log.Error("a later incarnation of the control plane could not be written down", "error", err)
	}
	return true
}

// standBy is what a host does whose incarnation has ended: it ends its machines,
// opens nothing, says so, and asks whether it is a member all the same.
func (h *Host) standBy(ms membership) {
	h.waits = holdfast.Errorf(holdfast.Denied, "the control plane of cluster %s was rebuilt without this host (incarnation %d; host %s was in %d), by 'holdfast cluster recover' or 'move-kv': host %s serves and writes nothing. If the control plane is in an external etcd now, start it with that. What is on its disks stays as it is. To use it again, stop it, give it an empty data_dir and wiped disks, and join with a new code", ms.Name, ms.Ended, h.cfg.Name, ms.Incarnation, h.cfg.Name)
	h.log.Error("this host stands by", "why", h.waits)
	h.endMachines()
	h.tasks.Go(func() {
		for {
			select {
			case <-h.stopped:
				return
			case <-time.After(askAgain):
			}
			if next, ok := h.admittedTo(ms); ok {
				if err := h.dir.write("cluster.json", next); err != nil {
					h.log.Error("the new incarnation could not be written down", "error", err)
					continue
				}
				h.log.Info("this host stays a member", "incarnation", next.Incarnation)
				h.restart(nil)
				return
			}
		}
	})
}

// endMachines ends this host's machines, whatever they do: their disks are
// somebody else's now.
func (h *Host) endMachines() {
	list, err := qemu.Processes(h.dir.file("vm"))
	if err != nil {
		h.log.Error("this host's machines could not be found", "error", err)
	}
	for _, p := range list {
		if err := p.Signal(unix.SIGKILL); err != nil {
			h.log.Error("a machine could not be ended", "vm", p.VM.Short(), "error", err)
		}
	}
}

// admittedTo asks the members whether this host is one in their incarnation; who
// is none gets no answer. What it had of the control plane is set aside.
func (h *Host) admittedTo(ms membership) (next membership, ok bool) {
	creds, err := auth.LoadCredentials(h.dir.file("pki"), ms.credential())
	if err != nil {
		return ms, false
	}
	for _, addr := range ms.APIs {
		ctx, cancel := context.WithTimeout(context.Background(), reachTime)
		if id, up := whoAnswers(ctx, addr, creds); up && id.Incarnation > ms.Incarnation {
			c := client.HTTPS(addr, auth.ClientTLS(creds, nil))
			r, err := c.Recovery(ctx)
			c.Close()
			if err == nil && r.Incarnation > ms.Incarnation && (len(r.Endpoints) > 0 || r.External && h.cfg.KV.External()) {
				cancel()
				ms.Incarnation, ms.Ended, ms.Endpoints = r.Incarnation, 0, r.Endpoints
				ms.Member, ms.Initial, ms.Etcd, ms.External = false, "", etcdDirOf(r.Incarnation), r.External
				return ms, true
			}
		}
		cancel()
	}
	return ms, false
}

// showIncarnation gives a host that stayed a member through a recovery a
// certificate of the incarnation that it is in now, under the key that it has: by
// this a member of an earlier one that meets it, and perhaps nobody else, sees
// that its own has ended.
func (h *Host) showIncarnation(m *member) error {
	n := m.ms.Load().Incarnation
	id, err := m.creds.Identity()
	if err != nil || id.Incarnation >= n || m.shown.Load() != nil {
		return err
	}
	ca, err := m.authority(n)
	if err != nil {
		return err
	}
	creds, err := h.certifyKey(ca, m.creds.Key)
	if err != nil {
		return err
	}
	name := credentialOf(n)
	if err := creds.Save(h.dir.file("pki"), name); err != nil {
		return err
	}
	if err := h.remember(m, func(ms *membership) { ms.Credential = name }); err != nil {
		return err
	}
	cert := creds.TLSCertificate()
	m.shown.Store(&cert)
	return nil
}

// authority is the cluster's, signing for an incarnation.
func (m *member) authority(incarnation int) (*auth.CA, error) {
	text, err := m.node.Cluster.Authority()
	if err != nil {
		return nil, err
	}
	ca, err := auth.ParseCA(text)
	if err != nil {
		return nil, err
	}
	ca.Incarnation = incarnation
	return ca, nil
}

// rememberAPIs writes down where the members answer, to be asked before anything
// is begun.
func (h *Host) rememberAPIs(m *member, st *cluster.State) {
	var addrs []string
	for _, host := range st.SortedHosts() {
		if host.Val.ID != h.dir.id.Host && host.Val.APIAddr != "" {
			addrs = append(addrs, host.Val.APIAddr)
		}
	}
	same := slices.Equal(addrs, m.ms.Load().APIs)
	if same {
		return
	}
	if err := h.remember(m, func(ms *membership) { ms.APIs = addrs }); err != nil {
		h.log.Warn("the members' addresses could not be written down", "error", err)
	}
}
