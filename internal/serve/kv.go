package serve

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
)

// startKV starts this host's member of the control plane, if it has one, and
// the client to all of them.
func (h *Host) startKV(m *member) (err error) {
	files := auth.CredentialFiles(h.dir.file("pki"), "host")
	if m.ms.Member {
		m.etcd, err = etcd.StartMember(etcd.MemberConfig{
			Name: h.dir.id.Host.String(), DataDir: h.dir.file("etcd"),
			ListenPeer: "https://" + h.cfg.Listen.EtcdPeer, ListenClient: "https://" + h.cfg.Listen.EtcdClient,
			AdvertisePeer: h.peerURL(), AdvertiseClient: h.clientURL(),
			TLS:   etcd.TLSFiles{Cert: files.Cert, Key: files.Key, CA: files.CA, ServerName: auth.ServerName},
			Token: m.ms.Cluster.String(), Join: m.ms.Initial != "", InitialCluster: m.ms.Initial, Log: h.log,
		})
		if err != nil {
			return err
		}
	}
	endpoints := m.ms.Endpoints
	if len(h.cfg.KV.Endpoints) > 0 {
		endpoints = h.cfg.KV.Endpoints
	} else if m.ms.Member {
		endpoints = append([]string{h.clientURL()}, endpoints...)
	}
	m.kv, err = etcd.Dial(etcd.DialConfig{Endpoints: dedupe(endpoints), TLS: auth.ClientTLS(m.creds, nil), Log: h.log})
	return err
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

// voters is the seam by which the reconciler makes learners voters; nil with
// an external control plane.
func (h *Host) voters(m *member) reconcile.Voters {
	if len(h.cfg.KV.Endpoints) > 0 {
		return nil
	}
	return promoter{m.kv}
}

type promoter struct{ kv *etcd.Store }

// Promote implements reconcile.Voters.
func (p promoter) Promote(host cluster.Host) error {
	members, err := p.kv.Members()
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Name == host.ID.String() || m.Peer == host.Peer {
			return p.kv.Promote(m.ID)
		}
	}
	return holdfast.Errorf(holdfast.NotFound, "host %s runs no member of the control plane", host.Name)
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
		denied = h.denyHosts(m.node.Cluster.State(), denied)
		if len(h.cfg.KV.Endpoints) > 0 {
			continue
		}
		var urls []string
		if m.ms.Member {
			urls = append(urls, h.clientURL())
		}
		for _, host := range m.node.Cluster.State().SortedHosts() {
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

const endpointsEvery = time.Second

func (m *member) endpoints() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ms.Endpoints
}

// remember changes what the data directory says of the membership.
func (h *Host) remember(m *member, f func(*membership)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ms := m.ms
	ms.Disks = append([]string(nil), ms.Disks...)
	f(&ms)
	if err := h.dir.write("cluster.json", ms); err != nil {
		return err
	}
	m.ms = ms
	return nil
}
