package serve

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// reader reads single keys of an etcd.
type reader = func(key string) (value []byte, found bool, err error)

// dialExternal returns the client to the etcd that the configuration leads to. It
// asks nothing of one that holds another cluster, or none.
func (h *Host) dialExternal(ms membership, founding bool) (*etcd.Store, error) {
	return h.dialChecked(func(get reader) error {
		if founding {
			return nil // the first commit says that nothing is there
		}
		return cluster.Belongs(ms.Cluster, ms.Name, get)
	})
}

func (h *Host) dialChecked(check func(reader) error) (*etcd.Store, error) {
	conf, err := externalTLS(h.cfg.KV)
	if err != nil {
		return nil, err
	}
	c := etcd.DialConfig{Endpoints: dedupe(h.cfg.KV.Endpoints), TLS: conf, Prefix: h.cfg.KV.Prefix, Fence: cluster.FenceKey, Check: check, Log: h.log}
	if k := h.cfg.KV; k.User != "" {
		c.Login = func() (string, string, error) {
			p, err := readSecret("kv.password_file", k.PasswordFile, maxPassword)
			return k.User, strings.TrimRight(string(p), "\r\n"), err
		}
		if _, _, err := c.Login(); err != nil {
			return nil, err
		}
	}
	return etcd.Dial(c)
}

// maxPassword bounds a file with a password.
const maxPassword = 1024

// externalTLS is how this host proves itself to an external etcd, and knows it. The
// certificate is read anew for every connection: it may be replaced in its place.
func externalTLS(k config.KV) (*tls.Config, error) {
	text, err := os.ReadFile(k.CA)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "kv.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, holdfast.Errorf(holdfast.Invalid, "kv.ca: %s holds no certificate in PEM; give the authority of the etcd's certificates", k.CA)
	}
	load := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "kv.cert and kv.key: %w; give a certificate and its key, both PEM", err)
		}
		return &c, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }}, nil
}

// tryExternal says what is wrong with an external etcd before a cluster is made in
// it: every endpoint must answer, let in nobody without a certificate, and hold
// nothing under the prefix.
func (h *Host) tryExternal() (id uint64, err error) {
	var taken error
	st, err := h.dialChecked(func(get reader) error {
		taken = cluster.Vacant(get)
		return taken
	})
	if err != nil {
		return 0, err
	}
	defer st.Close()
	conf, err := externalTLS(h.cfg.KV)
	if err != nil {
		return 0, err
	}
	for _, s := range st.Look() {
		switch {
		case holdfast.IsKind(taken, holdfast.Exists):
			return 0, holdfast.Errorf(holdfast.Exists, "etcd %s: %w", s.URL, taken)
		case s.Err != nil:
			return 0, s.Err
		case !s.Leads:
			return 0, holdfast.Errorf(holdfast.Unavailable, "etcd %s has no leader: fewer than half of its members are there", s.URL)
		case s.Full:
			return 0, holdfast.Errorf(holdfast.NoSpace, "etcd %s is full and takes no writes; see 'holdfast runbook etcd-full'", s.URL)
		case etcd.Open(s.URL, conf):
			return 0, holdfast.Errorf(holdfast.Denied, "etcd %s lets in who shows no certificate: whoever reaches it could take the cluster's keys from it; start it with --client-cert-auth and --trusted-ca-file", s.URL)
		}
		id = s.Etcd
	}
	return id, nil
}

// findCluster makes sure, before a join code is spent, that the external etcd
// that this host was given is the one that the cluster is in.
func (h *Host) findCluster(code v1.JoinCode) error {
	st, err := h.dialChecked(func(reader) error { return nil })
	if err != nil {
		return err
	}
	defer st.Close()
	for _, s := range st.Look() {
		if s.Err != nil && !holdfast.IsKind(s.Err, holdfast.Unavailable) { // one that is away is no reason to wait
			return s.Err
		}
	}
	items, _, _, err := cluster.ReadLasting(st.Range)
	if holdfast.IsKind(err, holdfast.NotFound) {
		return holdfast.Errorf(holdfast.Conflict, "the etcd at %s holds no cluster under %s; the code was not used. Give this host the etcd and the prefix that the other hosts have", strings.Join(h.cfg.KV.Endpoints, ", "), prefixText(h.cfg.KV))
	}
	if err != nil {
		return err
	}
	ca, err := auth.ParseCA(cluster.AuthorityIn(items))
	if err != nil {
		return err
	}
	if sha256.Sum256(ca.Cert.Raw) != code.CA {
		c, _ := cluster.ClusterIn(items)
		return holdfast.Errorf(holdfast.Conflict, "the etcd at %s holds cluster %s under %s, which did not make this join code; the code was not used. Give this host the etcd and the prefix that the other hosts have", strings.Join(h.cfg.KV.Endpoints, ", "), c.Name, prefixText(h.cfg.KV))
	}
	return nil
}

func prefixText(k config.KV) string {
	if k.Prefix == "" {
		return "no prefix"
	}
	return fmt.Sprintf("prefix %q", k.Prefix)
}

// checkSameKind refuses a host that would look for the control plane elsewhere than
// where the cluster has it, before its code is spent.
func (h *Host) checkSameKind(m *member, r v1.JoinRequest) error {
	switch {
	case m.ms.Load().External && !r.External:
		return holdfast.Errorf(holdfast.Conflict, "cluster %s has its control plane in an external etcd; start the new host with --etcd %s and a certificate for it (--etcd-ca, --etcd-cert, --etcd-key%s), then use this code again", m.ms.Load().Name, strings.Join(h.cfg.KV.Endpoints, ","), prefixFlag(h.cfg.KV))
	case !m.ms.Load().External && r.External:
		return holdfast.Errorf(holdfast.Conflict, "cluster %s has its control plane on its own hosts; start the new host without --etcd and kv.endpoints, then use this code again", m.ms.Load().Name)
	}
	return nil
}

func prefixFlag(k config.KV) string {
	if k.Prefix == "" {
		return ""
	}
	return ", --etcd-prefix " + k.Prefix
}

// checkControl compares where this host was when it joined with what it is
// started with now. errLeft: the external etcd that its cluster is in is not
// named any more.
func (h *Host) checkControl(ms membership) error {
	switch {
	case ms.External && !h.cfg.KV.External():
		return holdfast.Errorf(holdfast.Conflict, "cluster %s has its control plane in an external etcd, and this host was started without one; start it with --etcd and what belongs to it. If that etcd is lost for good, 'holdfast cluster recover' rebuilds the control plane on this host: %w", ms.Name, errLeft)
	case !ms.External && h.cfg.KV.External():
		h.log.Warn("the external etcd in the configuration is not used: the control plane is on the cluster's own hosts. 'holdfast cluster move-kv' moves it; otherwise take --etcd and kv.endpoints out", "incarnation", ms.Incarnation)
	}
	return nil
}

var errLeft = errors.New("no etcd is given")

// askStruckOut finds out whether this host was removed: an external etcd lets it in
// all the same. What it says of itself there must end.
func (h *Host) askStruckOut(m *member) {
	st := m.node.Cluster.State()
	if _, member := st.Hosts[h.dir.id.Host]; member || st.Rev == 0 || m.struck.Swap(true) {
		return
	}
	h.log.Error("this host is no member of the cluster any more")
	m.kv.Close()
}

// nobodyReaches refuses a recovery while a host that is left reaches the external
// etcd: then it is not lost, and this host alone is cut off from it.
func (h *Host) nobodyReaches(ctx context.Context, creds auth.Credentials, o *recoveryOrder) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var who string
	for _, host := range cluster.HostsIn(o.records.Items) {
		if !o.stay[host.ID] {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reachTime)
			defer cancel()
			c := client.HTTPS(host.APIAddr, auth.ClientTLS(creds, nil))
			defer c.Close()
			if st, err := c.Status(ctx); err == nil && st.CanLose.Unknown == "" && st.Host.InCluster {
				mu.Lock()
				who = host.Name
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if who == "" {
		return nil
	}
	return holdfast.Errorf(holdfast.Conflict, "host %s reaches the external etcd: it is not lost, only this host is cut off from it", who)
}
