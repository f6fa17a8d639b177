package serve

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// credential and etcdDir are the names of what belongs to the incarnation of the
// control plane that a host is in.
func (ms *membership) credential() string {
	if ms.Credential == "" {
		return "host"
	}
	return ms.Credential
}

func (ms *membership) etcdDir() string {
	if ms.Etcd == "" {
		return "etcd"
	}
	return ms.Etcd
}

// etcdDirOf and credentialOf are these names in a later incarnation than the first.
func etcdDirOf(incarnation int) string    { return fmt.Sprintf("etcd-%d", incarnation) }
func credentialOf(incarnation int) string { return fmt.Sprintf("host-%d", incarnation) }

// rebuild carries an order out, before anything of the host is started: a new
// member of the control plane with the records in a directory of its own, a new
// certificate, and last cluster.json, which names both. Until that is written the
// host is as it was, and what was before stays where it is.
func (h *Host) rebuild(o *recoveryOrder) (v1.Recovery, error) {
	ms, err := h.dir.membership()
	if err != nil {
		return v1.Recovery{}, err
	}
	if ms == nil {
		ms = o.newMembership()
	}
	text := cluster.AuthorityIn(o.records.Items)
	if text == nil {
		return v1.Recovery{}, holdfast.Errorf(holdfast.Corrupt, "the records hold no certificate authority")
	}
	ca, err := auth.ParseCA(text)
	if err != nil {
		return v1.Recovery{}, err
	}
	ca.Incarnation = max(o.last, o.records.Incarnation) + 1
	creds, err := h.certify(ca)
	if err != nil {
		return v1.Recovery{}, err
	}
	p, err := cluster.PlanRecovery(o.records.Items, o.records.Rev, h.survivor(o, h.record(creds)))
	if err != nil {
		return v1.Recovery{}, err
	}
	n := p.Cluster.Incarnation
	next := *ms
	next.Incarnation, next.Etcd, next.Credential, next.Ended = n, etcdDirOf(n), credentialOf(n), 0
	next.Member, next.Initial, next.Endpoints, next.APIs = true, "", []string{h.clientURL()}, nil
	next.External = false // from now on the control plane is our own
	next.Keys = map[string]string{}
	for _, x := range p.Stay {
		next.Keys[x.ID.String()] = x.CertKey
		next.APIs = append(next.APIs, x.APIAddr)
	}
	if err := creds.Save(h.dir.file("pki"), next.Credential); err != nil {
		return v1.Recovery{}, err
	}
	if err := os.RemoveAll(h.dir.file(next.Etcd)); err != nil { // of a recovery that was interrupted
		return v1.Recovery{}, holdfast.Errorf(holdfast.IO, "control plane: %w", err)
	}
	if err := h.refill(next, creds, p); err != nil {
		return v1.Recovery{}, err
	}
	out := h.renderRecovery(p, o)
	out.State, out.Log = "done", h.dir.file(fmt.Sprintf("recovered-%d.txt", n))
	now := time.Now().UTC()
	out.At = &now
	if err := h.tellRecovery(out, n); err != nil {
		return out, err
	}
	return out, h.dir.write("cluster.json", next)
}

// refill writes the records into a new control plane of this host alone, and
// stops it again.
func (h *Host) refill(ms membership, creds auth.Credentials, p *cluster.RecoveryPlan) error {
	m := &member{creds: creds, done: make(chan struct{})}
	m.ms.Store(&ms)
	defer m.stop(h.log)
	if err := h.startKV(m, true); err != nil {
		return err
	}
	if err := m.etcd.Load().WaitReady(30 * time.Second); err != nil {
		return err
	}
	c := cluster.Open(m.kv, clock.System{}, h.log)
	defer c.Close()
	return c.Refill(p.Items)
}

// tellRecovery writes down what was done, for people and for the API.
func (h *Host) tellRecovery(r v1.Recovery, n int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Cluster %s, %s on host %s: the control plane was rebuilt from %s, as of revision %d.\n", r.Cluster, r.At.Format(time.RFC3339), r.Host, r.Source, r.Revision)
	for _, l := range r.Lines {
		fmt.Fprintln(&b, l)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(&b, "NOT KNOWN OR NOT THERE:", w)
	}
	if err := os.WriteFile(r.Log, []byte(b.String()), 0o600); err != nil {
		return holdfast.Errorf(holdfast.IO, "log of the recovery: %w", err)
	}
	return h.dir.write(recoveryFile(n), r)
}

func recoveryFile(n int) string { return fmt.Sprintf("recovered-%d.json", n) }

// Recovery implements httpapi.Recoverer.
func (h *Host) Recovery(context.Context) (v1.Recovery, error) {
	ms, err := h.dir.membership()
	if err != nil || ms == nil {
		return emptyRecovery("none", "", h.cfg.Name), err
	}
	out := emptyRecovery("none", ms.Name, h.cfg.Name)
	if ms.Incarnation > 0 {
		b, err := os.ReadFile(h.dir.file(recoveryFile(ms.Incarnation)))
		if err == nil {
			err = json.Unmarshal(b, &out)
		}
		if err != nil {
			out = emptyRecovery("none", ms.Name, h.cfg.Name) // it was made on another host
		}
	}
	out.Incarnation, out.External = ms.Incarnation, ms.External
	h.mu.Lock()
	m := h.run
	h.mu.Unlock()
	if m != nil {
		out.Endpoints = m.endpoints()
	}
	if h.failed != nil {
		out.State, out.Error = "failed", h.failed.Error()
	}
	return out, nil
}

// openAlone opens a disk of a host whose work could not begin.
func (h *Host) openAlone(ms membership, path string) (opened, error) {
	dev, err := filedisk.Open(path, filedisk.Options{Cache: cacheOf(ms.IO[path])})
	if err != nil {
		return opened{}, err
	}
	o := h.storeOptions()
	o.Expect = ofCluster(ms.Cluster, path)
	st, err := store.Open(dev, o)
	if err != nil {
		dev.Close()
		return opened{}, err
	}
	return opened{st, dev, path}, nil
}

func (o opened) close() error {
	err := o.Close()
	if cerr := o.dev.Close(); err == nil && !holdfast.IsKind(cerr, holdfast.Closed) {
		err = cerr
	}
	return err
}

// ofCluster refuses a disk of another cluster.
func ofCluster(id holdfast.ClusterID, path string) func(store.Identity) error {
	return func(is store.Identity) error {
		if is.Cluster != id {
			return holdfast.Errorf(holdfast.Invalid, "disk %s belongs to cluster %s, not to this one", path, is.Cluster.Short())
		}
		return nil
	}
}
