package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// maxMembers is how many hosts run a member of the control plane at most: one
// in each of up to five racks.
const maxMembers = 5

// beginMembership makes sure that the host enters one cluster, once.
func (h *Host) beginMembership() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != nil || h.waits != nil || h.joining {
		return holdfast.Errorf(holdfast.Conflict, "this host is in a cluster already; to leave it for another, stop it and give it an empty data_dir")
	}
	h.joining = true
	return nil
}

func (h *Host) endMembership() {
	h.mu.Lock()
	h.joining = false
	h.mu.Unlock()
}

// InitCluster implements httpapi.Members.
func (h *Host) InitCluster(ctx context.Context, name string) (httpapi.Admin, error) {
	var admin httpapi.Admin
	if err := holdfast.CheckName("cluster", name); err != nil {
		return admin, err
	}
	if h.cfg.Witness {
		return admin, holdfast.Errorf(holdfast.Invalid, "host %s is a witness, which has no disks and runs no VMs; make the cluster on another host and join this one with a code from there", h.cfg.Name)
	}
	if err := h.beginMembership(); err != nil {
		return admin, err
	}
	defer h.endMembership()
	u, err := newUUID()
	if err != nil {
		return admin, err
	}
	id := holdfast.ClusterID{UUID: u}
	ca, err := auth.NewCA(id)
	if err != nil {
		return admin, err
	}
	creds, err := h.certify(ca)
	if err != nil {
		return admin, err
	}
	if err := creds.Save(h.dir.file("pki"), "host"); err != nil {
		return admin, err
	}
	if admin, err = adminOf(ca); err != nil {
		return admin, err
	}
	external := h.cfg.KV.External()
	if external {
		if _, err := h.tryExternal(); err != nil {
			return admin, err
		}
	}
	ms := membership{Cluster: id, Name: name, Member: !external, External: external}
	if err := h.found(ms, creds, ca); err != nil {
		return admin, err
	}
	if err := h.dir.write("cluster.json", ms); err != nil {
		return admin, err
	}
	return admin, h.enterNew(ms)
}

// found writes the new cluster's first records, over a control plane that is
// started for it and stopped again: enter starts it like at any other time.
func (h *Host) found(ms membership, creds auth.Credentials, ca *auth.CA) error {
	m := &member{creds: creds, done: make(chan struct{})}
	m.ms.Store(&ms)
	defer m.stop(h.log)
	if err := h.startKV(m, true); err != nil {
		return err
	}
	if e := m.etcd.Load(); e != nil {
		if err := e.WaitReady(30 * time.Second); err != nil {
			return err
		}
	}
	c := cluster.Open(m.kv, clock.System{}, h.log)
	defer c.Close()
	rec := h.record(creds)
	if ms.Member {
		rec.Peer, rec.Client, rec.Voter = h.peerURL(), h.clientURL(), true
	}
	if err := c.Init(cluster.Cluster{ID: ms.Cluster, Name: ms.Name, External: ms.External}, rec); err != nil {
		return err
	}
	text, err := ca.PEM()
	if err != nil {
		return err
	}
	return c.PutAuthority(text)
}

// record is this host's record in the cluster.
func (h *Host) record(creds auth.Credentials) cluster.Host {
	return cluster.Host{
		ID: h.dir.id.Host, Name: h.cfg.Name, Domain: h.cfg.Domain(),
		Addr: h.cfg.AdvertiseAddr(h.cfg.Listen.Transport), APIAddr: h.cfg.AdvertiseAddr(h.cfg.Listen.API),
		CertKey: auth.KeyHash(creds.Cert),
	}
}

// addresses are what the host's certificate names.
func (h *Host) addresses() []string { return hostsOf(h.cfg.AdvertiseAddr(h.cfg.Listen.API)) }

func hostsOf(addrs ...string) []string {
	var out []string
	for _, a := range addrs {
		if host, _, err := net.SplitHostPort(strings.TrimPrefix(a, "https://")); err == nil {
			out = append(out, host)
		}
	}
	return dedupe(out)
}

func (h *Host) certify(ca *auth.CA) (auth.Credentials, error) {
	key, err := auth.NewKey()
	if err != nil {
		return auth.Credentials{}, err
	}
	return h.certifyKey(ca, key)
}

func (h *Host) certifyKey(ca *auth.CA, key *ecdsa.PrivateKey) (auth.Credentials, error) {
	csr, err := auth.CSR(key)
	if err != nil {
		return auth.Credentials{}, err
	}
	cert, err := ca.SignHost(csr, h.dir.id.Host, h.addresses())
	return auth.Credentials{CA: ca.Cert, Cert: cert, Key: key}, err
}

func adminOf(ca *auth.CA) (httpapi.Admin, error) {
	key, err := auth.NewKey()
	if err != nil {
		return httpapi.Admin{}, err
	}
	csr, err := auth.CSR(key)
	if err != nil {
		return httpapi.Admin{}, err
	}
	cert, err := ca.SignAdmin(csr, "admin")
	if err != nil {
		return httpapi.Admin{}, err
	}
	pem, err := auth.EncodeKey(key)
	return httpapi.Admin{CA: auth.EncodeCert(ca.Cert), Cert: auth.EncodeCert(cert), Key: pem}, err
}

// CreateJoinCode implements httpapi.Members.
func (h *Host) CreateJoinCode(ctx context.Context, rack string, life time.Duration) (string, error) {
	m, err := h.member()
	if err != nil {
		return "", err
	}
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	code := v1.JoinCode{CA: sha256.Sum256(m.creds.CA.Raw), Secret: secret}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return "", err
	}
	for _, host := range st.SortedHosts() {
		if self := host.Val.ID == h.dir.id.Host; self {
			code.API = append([]string{host.Val.APIAddr}, code.API...)
		} else if len(code.API) < 4 {
			code.API = append(code.API, host.Val.APIAddr)
		}
	}
	if len(code.API) > 4 {
		code.API = code.API[:4]
	}
	if _, err := m.node.Cluster.CreateJoinCode(auth.HashOf(secret), rack, life); err != nil {
		return "", err
	}
	return code.String(), nil
}

// JoinCodes implements httpapi.Members.
func (h *Host) JoinCodes(ctx context.Context) ([]cluster.JoinCode, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return m.node.Cluster.JoinCodes()
}

// RevokeJoinCode implements httpapi.Members.
func (h *Host) RevokeJoinCode(ctx context.Context, hash string) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Cluster.RevokeJoinCode(hash)
}

// Join implements httpapi.Members.
func (h *Host) Join(ctx context.Context, code v1.JoinCode) error {
	if err := h.beginMembership(); err != nil {
		return err
	}
	defer h.endMembership()
	key, err := auth.NewKey()
	if err != nil {
		return err
	}
	csr, err := auth.CSR(key)
	if err != nil {
		return err
	}
	req := v1.JoinRequest{
		Secret: hex.EncodeToString(code.Secret), HostID: h.dir.id.Host.String(), Name: h.cfg.Name, Site: h.cfg.Site, Rack: h.cfg.Rack,
		Addr: h.cfg.AdvertiseAddr(h.cfg.Listen.Transport), API: h.cfg.AdvertiseAddr(h.cfg.Listen.API), CSR: string(csr), Witness: h.cfg.Witness,
	}
	if h.cfg.KV.External() {
		if err := h.findCluster(code); err != nil {
			return err
		}
		req.External = true
	} else {
		req.Peer, req.Client = h.peerURL(), h.clientURL()
	}
	ans, err := client.Join(ctx, code, req)
	if err != nil {
		return err
	}
	ms, creds, err := accept(ans)
	if err != nil {
		return err
	}
	creds.Key, ms.Witness = key, h.cfg.Witness
	if err := creds.Check(); err != nil {
		return err
	}
	if err := creds.Save(h.dir.file("pki"), "host"); err != nil {
		return err
	}
	if err := h.dir.write("cluster.json", ms); err != nil {
		return err
	}
	return h.enterNew(ms)
}

// enterNew starts everything of a host that has just become a member, and
// returns when it sees the cluster.
func (h *Host) enterNew(ms membership) error {
	if err := h.enter(ms, nil); err != nil {
		return err
	}
	m, err := h.member()
	if err == nil {
		m.awaitPicture()
	}
	return err
}

// accept reads a member's answer to a join.
func accept(ans v1.JoinAnswer) (ms membership, creds auth.Credentials, err error) {
	u, err := holdfast.ParseUUID(ans.ClusterID)
	if err != nil {
		return ms, creds, err
	}
	if creds.CA, err = auth.ParseCert([]byte(ans.CA)); err != nil {
		return ms, creds, err
	}
	if creds.Cert, err = auth.ParseCert([]byte(ans.Cert)); err != nil {
		return ms, creds, err
	}
	ms = membership{Cluster: holdfast.ClusterID{UUID: u}, Name: ans.ClusterName, Endpoints: ans.Endpoints, Member: ans.Voter, Initial: strings.Join(ans.Initial, ","), Keys: ans.Keys, Incarnation: ans.Incarnation, External: ans.External}
	return ms, creds, nil
}

// Admit implements httpapi.Members: it spends the code and certifies the new
// host, and announces its control plane member if its rack has none.
func (h *Host) Admit(ctx context.Context, r v1.JoinRequest) (v1.JoinAnswer, error) {
	var ans v1.JoinAnswer
	m, err := h.member()
	if err != nil {
		return ans, err
	}
	rec, hash, err := h.applicant(r)
	if err != nil {
		return ans, err
	}
	if err := h.checkSameKind(m, r); err != nil {
		return ans, err
	}
	ca, err := m.authority(m.ms.Load().Incarnation)
	if err != nil {
		return ans, err
	}
	cert, err := ca.SignHost([]byte(r.CSR), rec.ID, hostsOf(r.API, r.Addr, r.Peer))
	if err != nil {
		return ans, err
	}
	rec.CertKey = auth.KeyHash(cert)
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return ans, err
	}
	member := !m.ms.Load().External && r.Peer != "" && wantsMember(st, rec)
	if err := checkPlace(st, rec, member); err != nil {
		return ans, err
	}
	if member {
		rec.Peer, rec.Client = r.Peer, r.Client
	}
	if err := m.node.Cluster.Join(hash, rec); err != nil {
		return ans, err
	}
	ans = v1.JoinAnswer{ClusterID: m.ms.Load().Cluster.String(), ClusterName: m.ms.Load().Name,
		Incarnation: m.ms.Load().Incarnation, CA: string(auth.EncodeCert(ca.Cert)), Cert: string(auth.EncodeCert(cert)), External: m.ms.Load().External, Voter: member}
	ans.Keys = hostKeys(st)
	for _, host := range st.SortedHosts() {
		if host.Val.Client != "" && !ans.External {
			ans.Endpoints = append(ans.Endpoints, host.Val.Client)
		}
	}
	if member {
		initial, err := announce(m.kv, rec)
		if err != nil {
			return ans, holdfast.Errorf(holdfast.KindOf(err), "host %s is a member now, but its part of the control plane could not be announced: %w; join again with a new code", rec.Name, err)
		}
		ans.Initial = strings.Split(initial, ",")
	}
	return ans, nil
}

func announce(kv *etcd.Store, rec cluster.Host) (string, error) {
	_, initial, err := kv.AddLearner(rec.ID.String(), rec.Peer)
	return initial, err
}

// wantsMember decides whether a new host runs a member of the control plane:
// the first host of each of up to five racks does.
func wantsMember(st *cluster.State, rec cluster.Host) bool {
	n := 0
	for _, host := range st.SortedHosts() {
		if host.Val.Peer == "" || host.Val.ID == rec.ID {
			continue
		}
		if n++; host.Val.Domain == rec.Domain {
			return false
		}
	}
	return n < maxMembers
}

// applicant checks a request to join and makes the host's record of it.
func (h *Host) applicant(r v1.JoinRequest) (cluster.Host, string, error) {
	u, err := holdfast.ParseUUID(r.HostID)
	if err != nil {
		return cluster.Host{}, "", err
	}
	hash, err := auth.HashSecret(r.Secret)
	if err != nil {
		return cluster.Host{}, "", err
	}
	if err := holdfast.CheckName("host", r.Name); err != nil {
		return cluster.Host{}, "", err
	}
	if err := holdfast.CheckName("rack", r.Rack); err != nil {
		return cluster.Host{}, "", err
	}
	return cluster.Host{ID: holdfast.HostID{UUID: u}, Name: r.Name, Domain: holdfast.FaultDomain{Site: r.Site, Rack: r.Rack},
		Addr: r.Addr, APIAddr: r.API, Witness: r.Witness}, hash, nil
}
