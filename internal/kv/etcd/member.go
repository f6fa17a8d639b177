package etcd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"github.com/holdfast-cloud/holdfast"
)

// The tuning of a member. Five heartbeats a second cost an idle host little (a
// member of three uses under 1 % of a core); an election starts when six of
// them are missed, which a saturated machine of two cores rarely does and
// which keeps a leader's loss within half of a host's lease.
const (
	heartbeatMS = 200
	electionMS  = 1200

	snapshotCount  = 1000 // entries between snapshots: they are held in memory
	catchUpEntries = 500
	quotaBytes     = 512 << 20
	maxRequest     = 2 << 20 // kv.MaxCommit and what wraps it
	maxTxnOps      = 128
	maxLearners    = 8
	retention      = "5m"                              // history kept for watches
	leadTimeout    = 2 * electionMS * time.Millisecond // for another member to take the lead

	// A joining member asks the others for the list of members and starts only
	// if it stands on it; another that has just joined may not know it yet.
	joinPatience = 20 * time.Second
	joinRetry    = 300 * time.Millisecond
)

// TLSFiles are the PEM files of a member: its certificate (for both sides of a
// connection), its key and the authority of the whole cluster.
type TLSFiles struct {
	Cert, Key, CA string
	// ServerName is a DNS name that every host's certificate carries. Members
	// ask for it instead of an address, and refuse certificates without it.
	// Empty: addresses are verified, and any certificate of the authority may
	// connect.
	ServerName string
}

// MemberConfig describes a member.
type MemberConfig struct {
	Name    string // unique in the cluster: the host's identifier
	DataDir string // used by nobody else; kept for the member's life

	ListenPeer, ListenClient string // URLs: https://ADDRESS:PORT
	// PeerSocket and ClientSocket are paths of unix sockets to listen on instead
	// of the two URLs, in plain text, for somebody in front who knows who is
	// let in. They must lie in a directory that is closed to others.
	PeerSocket, ClientSocket string
	// AdvertisePeer and AdvertiseClient are what others connect to; empty
	// means the same as the listeners.
	AdvertisePeer, AdvertiseClient string
	TLS                            TLSFiles

	// Token keeps members of different clusters apart: the cluster's identifier.
	Token string
	// Join is set for a member that AddLearner has announced to a running
	// cluster, with the InitialCluster that it returned. A first member leaves
	// both unset. Neither matters once the data directory is in use.
	Join           bool
	InitialCluster string // NAME=PEERURL,…
	// Quota is how many bytes the data may take; 0: 512 MiB.
	Quota int64
	// Again is set for a first member that has run before. Without its data
	// it does not start: it would begin an empty cluster under the old one's
	// identity.
	Again bool

	Log *slog.Logger // nil: silent
}

// Member is a running etcd member.
type Member struct {
	etcd *embed.Etcd
	log  *slog.Logger

	mu    sync.Mutex
	grpc  *grpc.Server
	close sync.Once
	over  chan struct{} // closed by Close
	tasks sync.WaitGroup
}

// StartMember starts a member and returns as soon as it listens; it may not
// have a leader for a long time (WaitReady). Kind Invalid for a configuration
// that cannot work, Damaged for a data directory that cannot be read,
// Unavailable if a joining member reaches no other or its ports are taken.
func StartMember(c MemberConfig) (m *Member, err error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	cfg, err := c.embed()
	if err != nil {
		return nil, err
	}
	m = &Member{log: c.Log, over: make(chan struct{})}
	cfg.ServiceRegister = func(s *grpc.Server) {
		m.mu.Lock()
		m.grpc = s
		m.mu.Unlock()
	}
	defer func() {
		// etcd gives up on a damaged directory through its logger, which
		// panics instead of ending the process: here it can still be told.
		if r := recover(); r != nil {
			m, err = nil, damaged(c.DataDir, r)
		}
	}()
	used := c.used()
	if c.Again && !used {
		return nil, damaged(c.DataDir, "there is nothing in it")
	}
	for end := monotonic() + joinPatience; ; time.Sleep(joinRetry) {
		m.etcd, err = embed.StartEtcd(cfg)
		if err == nil {
			m.tasks.Go(func() { m.tunePeers(m.over) })
			return m, nil
		}
		if !c.Join || used || monotonic() > end {
			return nil, c.failed(err, used)
		}
		m.log.Debug("joining the control plane, trying again", "err", err)
	}
}

// used reports whether the data directory belongs to a member already: etcd
// begins anew wherever it finds no log.
func (c MemberConfig) used() bool {
	files, _ := os.ReadDir(filepath.Join(c.DataDir, "member", "wal"))
	return slices.ContainsFunc(files, func(f os.DirEntry) bool { return filepath.Ext(f.Name()) == ".wal" })
}

func (c MemberConfig) failed(err error, used bool) error {
	var network *net.OpError
	if used && !errors.As(err, &network) {
		return damaged(c.DataDir, err)
	}
	return holdfast.Errorf(holdfast.Unavailable, "starting the control plane's member %s: %w", c.Name, err)
}

func damaged(dir string, why any) error {
	return holdfast.Errorf(holdfast.Damaged,
		"the control plane's data in %s cannot be used: %v; if other racks still have theirs, remove this member, empty the directory and join again", dir, why)
}

func (c MemberConfig) embed() (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = c.Name, c.DataDir
	cfg.TickMs, cfg.ElectionMs = heartbeatMS, electionMS
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, catchUpEntries
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.QuotaBackendBytes, cfg.MaxRequestBytes, cfg.MaxTxnOps = cmp.Or(c.Quota, quotaBytes), maxRequest, maxTxnOps
	cfg.MaxLearners = maxLearners
	cfg.EnableGRPCGateway = false
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, retention
	cfg.WarningApplyDuration, cfg.WarningUnaryRequestDuration = time.Second, 2*time.Second
	cfg.InitialClusterToken, cfg.InitialCluster = c.Token, c.InitialCluster
	if c.Join {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(bridge(c.Log))
	if err := c.urls(cfg); err != nil {
		return nil, err
	}
	if err := c.tls(cfg); err != nil {
		return nil, err
	}
	if cfg.Name == "" || cfg.Dir == "" {
		return nil, holdfast.Errorf(holdfast.Invalid, "a control plane member needs a name and a data directory")
	}
	if cfg.InitialCluster == "" {
		cfg.InitialCluster = cfg.Name + "=" + cfg.AdvertisePeerUrls[0].String()
	}
	return cfg, nil
}

func (c MemberConfig) urls(cfg *embed.Config) error {
	for _, u := range []struct {
		what, own, other, socket string
		to                       *[]url.URL
	}{
		{"peer listener", c.ListenPeer, "", c.PeerSocket, &cfg.ListenPeerUrls},
		{"client listener", c.ListenClient, "", c.ClientSocket, &cfg.ListenClientUrls},
		{"advertised peer", c.AdvertisePeer, c.ListenPeer, "", &cfg.AdvertisePeerUrls},
		{"advertised client", c.AdvertiseClient, c.ListenClient, "", &cfg.AdvertiseClientUrls},
	} {
		if u.socket != "" {
			// etcd takes the path from where a URL has its host.
			*u.to = []url.URL{{Scheme: "unix", Host: u.socket}}
			continue
		}
		text := u.own
		if text == "" {
			text = u.other
		}
		p, err := parseURL(u.what, text)
		if err != nil {
			return err
		}
		*u.to = []url.URL{*p}
	}
	return nil
}

// parseURL accepts https://HOST:PORT only: nothing here speaks plain text.
func parseURL(what, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || !validPort(u.Port()) || u.Hostname() == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s URL %q: use https://ADDRESS:PORT", what, text)
	}
	return u, nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func (c MemberConfig) tls(cfg *embed.Config) error {
	if c.TLS.Cert == "" || c.TLS.Key == "" || c.TLS.CA == "" {
		return holdfast.Errorf(holdfast.Invalid, "a control plane member needs its certificate, key and authority: it never speaks plain text")
	}
	info := transport.TLSInfo{
		CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, TrustedCAFile: c.TLS.CA,
		ClientCertAuth: true,
		ServerName:     c.TLS.ServerName,
		// The authority and the name decide, not the address a peer calls from.
		SkipClientSANVerify: true,
	}
	if c.TLS.ServerName != "" {
		info.AllowedHostnames = []string{c.TLS.ServerName}
	}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = info, info
	cfg.TlsMinVersion = "TLS1.3"
	return nil
}

// Ready reports whether the member has joined and knows a leader.
func (m *Member) Ready() bool {
	select {
	case <-m.etcd.Server.ReadyNotify():
		return true
	default:
		return false
	}
}

// WaitReady waits until the member is Ready; kind Unavailable if that takes
// longer than timeout: the other voters may be away.
func (m *Member) WaitReady(timeout time.Duration) error {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case <-m.etcd.Server.StopNotify():
		return holdfast.Errorf(holdfast.Closed, "the control plane's member has stopped")
	case <-t.C:
		return holdfast.Errorf(holdfast.Unavailable,
			"the control plane has had no leader for %v; it needs more than half of its members", timeout)
	}
}

// ID is the member's identity in Members.
func (m *Member) ID() uint64 { return uint64(m.etcd.Server.MemberID()) }

// Leads reports whether this member believes that it is the leader.
func (m *Member) Leads() bool { return uint64(m.etcd.Server.Leader()) == m.ID() }

// HandLead gives the lead of the control plane to another voter. Kind Unavailable:
// the other has not taken it in time; this one goes on.
func (m *Member) HandLead(to uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), leadTimeout)
	defer cancel()
	if err := m.etcd.Server.MoveLeader(ctx, m.ID(), to); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "the control plane's lead was not handed to member %x: %w", to, err)
	}
	return nil
}

// Done is closed when the member has stopped, of itself or by Close: it stops
// by itself when it was removed from the cluster or its disk failed.
func (m *Member) Done() <-chan struct{} { return m.etcd.Server.StopNotify() }

// Close stops the member in order. Killing the process does no harm either.
func (m *Member) Close() {
	m.mu.Lock()
	s := m.grpc
	m.mu.Unlock()
	if s != nil {
		s.Stop() // ends other hosts' watches, which etcd would wait for
	}
	m.close.Do(func() {
		close(m.over)
		m.tasks.Wait()
		if !m.Ready() {
			// What answers clients waits for a leader before it looks whether
			// it is to end, and etcd waits for that.
			m.etcd.Server.HardStop()
		}
		m.etcd.Close() // hands the leadership over first
	})
}
