package serve

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
)

// startKV starts this host's member of the control plane, if it has one, and
// the client to all of them. founding: the cluster is being made.
func (h *Host) startKV(m *member, founding bool) (err error) {
	if m.ms.Load().External {
		m.kv, err = h.dialExternal(*m.ms.Load(), founding)
		return err
	}
	if m.ms.Load().Member {
		if err := h.startMember(m, founding); err != nil {
			return err
		}
	}
	endpoints := m.ms.Load().Endpoints
	if m.ms.Load().Member {
		endpoints = append([]string{h.clientURL()}, endpoints...)
	}
	m.kv, err = etcd.Dial(etcd.DialConfig{Endpoints: dedupe(endpoints), TLS: auth.ClientTLS(m.creds, nil), Fence: cluster.FenceKey, Log: h.log})
	return err
}

// startMember starts this host's member of the control plane.
func (h *Host) startMember(m *member, founding bool) error {
	ms := *m.ms.Load()
	files := auth.CredentialFiles(h.dir.file("pki"), ms.credential())
	token := ms.Cluster.String()
	if ms.Incarnation > 0 { // members of an earlier one are another cluster's
		token += fmt.Sprintf("-%d", ms.Incarnation)
	}
	e, err := etcd.StartMember(etcd.MemberConfig{
		Name: h.dir.id.Host.String(), DataDir: h.dir.file(ms.etcdDir()),
		PeerSocket: h.dir.file("etcd.peer"), ClientSocket: h.dir.file("etcd.client"),
		AdvertisePeer: h.peerURL(), AdvertiseClient: h.clientURL(),
		TLS:   etcd.TLSFiles{Cert: files.Cert, Key: files.Key, CA: files.CA, ServerName: auth.ServerName},
		Token: token, Join: ms.Initial != "", InitialCluster: ms.Initial,
		Again: !founding && ms.Initial == "", Log: h.log,
	})
	if err != nil {
		return err
	}
	if err := h.openGates(m); err != nil {
		for _, g := range m.gates {
			g.close()
		}
		m.gates = nil
		e.Close()
		return err
	}
	m.etcd.Store(e)
	return nil
}

// openGates opens the ports of this host's etcd member to the other hosts.
func (h *Host) openGates(m *member) error {
	conf := auth.ServerTLS(m.creds, m.awaitKV)
	for _, p := range []struct{ addr, socket, protocol string }{
		{h.cfg.Listen.EtcdPeer, "etcd.peer", "http/1.1"}, {h.cfg.Listen.EtcdClient, "etcd.client", "h2"},
	} {
		g, err := openGate(p.addr, h.dir.file(p.socket), conf, m.admitKV, h.log, p.protocol)
		if err != nil {
			return err
		}
		m.gates = append(m.gates, g)
	}
	return nil
}

// admitKV decides who gets through to this host's etcd member: this host
// itself, and the hosts whose records hold the key that they show. Until the
// records can be read, which may take just these connections, those that were
// last read count.
func (m *member) admitKV(id auth.Identity) error {
	switch {
	case id.Kind != auth.Host:
		return holdfast.Errorf(holdfast.Denied, "the control plane's own ports are for hosts alone")
	case auth.SameHash(id.KeyHash, auth.KeyHash(m.creds.Cert)):
		return nil
	}
	if c := m.records.Load(); c != nil && c.State().Rev > 0 {
		return m.allow(id)
	}
	key := m.ms.Load().Keys[id.Host.String()]
	if key == "" || !auth.SameHash(key, id.KeyHash) {
		return holdfast.Errorf(holdfast.Denied, "host %s was no member with this key when the membership was last read", id.Host.Short())
	}
	return nil
}

// newcomerWait is how long a host that is not known is waited for: the record
// of one that has just joined may be on its way.
const newcomerWait = time.Second

// awaitKV is admitKV for a new connection.
func (m *member) awaitKV(id auth.Identity) error {
	err := m.admitKV(id)
	if c := m.records.Load(); err != nil && id.Kind == auth.Host && c != nil {
		c.WaitFor(func(*cluster.State) bool { return m.admitKV(id) == nil }, newcomerWait)
		err = m.admitKV(id)
	}
	return err
}

// hostKeys are the keys of the members as the cluster has them.
func hostKeys(st *cluster.State) map[string]string {
	keys := make(map[string]string, len(st.Hosts))
	for _, h := range st.SortedHosts() {
		keys[h.Val.ID.String()] = h.Val.CertKey
	}
	return keys
}

func dedupe(list []string) []string {
	var out []string
	for _, s := range list {
		if !strings.Contains("\n"+strings.Join(out, "\n")+"\n", "\n"+s+"\n") {
			out = append(out, s)
		}
	}
	return out
}

func (h *Host) peerURL() string { return "https://" + h.cfg.AdvertiseAddr(h.cfg.Listen.EtcdPeer) }
func (h *Host) clientURL() string {
	return "https://" + h.cfg.AdvertiseAddr(h.cfg.Listen.EtcdClient)
}

// voters is the seam by which the reconciler changes who votes; nil with an
// external control plane.
func (h *Host) voters(m *member) reconcile.Voters {
	if m.ms.Load().External {
		return nil
	}
	return electorate{m.kv}
}

// electorate are the members of our own control plane.
type electorate struct{ kv *etcd.Store }

// Promote implements reconcile.Voters.
func (e electorate) Promote(host cluster.Host) error {
	found, err := e.membersOf(host)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return holdfast.Errorf(holdfast.NotFound, "host %s runs no member of the control plane", host.Name)
	}
	return e.kv.Promote(found[0].ID)
}

// Retire implements reconcile.Voters.
func (e electorate) Retire(host cluster.Host) error {
	found, err := e.membersOf(host)
	if err != nil {
		return err
	}
	for _, m := range found {
		if err := e.kv.RemoveMember(m.ID); err != nil {
			return err
		}
	}
	return nil
}

// membersOf returns the members that a host runs: one, or none.
func (e electorate) membersOf(host cluster.Host) ([]etcd.MemberInfo, error) {
	members, err := e.kv.Members()
	return slices.DeleteFunc(members, func(m etcd.MemberInfo) bool {
		return m.Name != host.ID.String() && (m.Peer == "" || m.Peer != host.Peer)
	}), err
}

// followHosts keeps what depends on the list of hosts as the cluster has it:
// the addresses that guests may not reach, and the members of the control plane
// to call, also in the data directory, so that a restart finds them.
func (h *Host) followHosts(m *member) {
	var denied string
	for {
		select {
		case <-m.done:
			return
		case <-time.After(endpointsEvery):
		}
		h.stepOut(m)
		st := m.node.Cluster.State()
		if st.Rev == 0 {
			continue // nothing has been read since the start: what was written down counts
		}
		denied = h.denyHosts(st, denied)
		h.rememberKeys(m, st)
		h.rememberAPIs(m, st)
		if err := h.showIncarnation(m); err != nil {
			h.log.Warn("this host cannot show yet which incarnation of the control plane it is in", "error", err)
		}
		h.enlist(m, st)
		h.tellSwap(m, os.DirFS("/"))
		if m.ms.Load().External {
			continue
		}
		h.handLead(m, st)
		var urls []string
		if m.ms.Load().Member {
			urls = append(urls, h.clientURL())
		}
		for _, host := range st.SortedHosts() {
			if host.Val.Client != "" {
				urls = append(urls, host.Val.Client)
			}
		}
		if urls = dedupe(urls); len(urls) == 0 || strings.Join(urls, " ") == strings.Join(m.endpoints(), " ") {
			continue
		}
		if err := m.kv.SetEndpoints(urls); err != nil {
			h.log.Warn("the control plane's addresses cannot be used", "error", err)
			continue
		}
		if err := h.remember(m, func(ms *membership) { ms.Endpoints = urls }); err != nil {
			h.log.Warn("the control plane's addresses could not be written down", "error", err)
		}
	}
}

// rememberKeys writes down who the members are, for the time before the records
// can be read after a start.
func (h *Host) rememberKeys(m *member, st *cluster.State) {
	keys := hostKeys(st)
	same := maps.Equal(keys, m.ms.Load().Keys)
	if same || !m.ms.Load().Member {
		return
	}
	if err := h.remember(m, func(ms *membership) { ms.Keys = keys }); err != nil {
		h.log.Warn("the members' keys could not be written down", "error", err)
	}
}

const endpointsEvery = time.Second

func (m *member) endpoints() []string {
	return m.ms.Load().Endpoints
}

// remember changes what the data directory says of the membership.
func (h *Host) remember(m *member, f func(*membership)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ms := *m.ms.Load()
	ms.Disks = append([]string(nil), ms.Disks...)
	f(&ms)
	if err := h.dir.write("cluster.json", ms); err != nil {
		return err
	}
	m.ms.Store(&ms)
	return nil
}
