package serve

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/agent"
	"github.com/holdfast-cloud/holdfast/internal/audit"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/internal/fence/cgroup"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/qemu"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/store"
	noted "github.com/holdfast-cloud/holdfast/internal/task"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
	"github.com/holdfast-cloud/holdfast/internal/tracing"
	"github.com/holdfast-cloud/holdfast/internal/transport/awake"
	"github.com/holdfast-cloud/holdfast/internal/transport/tcp"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

// Host is one host's process. mu guards the change from no cluster to member,
// which happens once.
type Host struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	tail    *telemetry.Tail
	began   time.Time
	dir     *dataDir
	api     *httpapi.Server
	hyper   machines
	exports *nbd.Server   // nil: a witness
	awake   *awake.Keeper // nil: a witness, or processors are not kept awake
	figures *figures

	streams    tasks         // backups and restores under way
	rehearsals chan struct{} // one for each that goes on

	imports sync.Map // holdfast.VolumeID → image.Progress, of those under way

	deriving sync.Mutex // held while a passphrase is worked on

	traces  *tracing.Tracer // nil: nobody is told
	program *program.Place
	again   chan *recoveryOrder // to begin anew, see Run
	becomes chan struct{}       // to become another program, see Run
	stopped chan struct{}       // closed by Stop
	tasks   sync.WaitGroup
	waits   error // why this host, a member, does no work; set at the start
	failed  error // why a recovery was not carried out; likewise

	mu      sync.Mutex
	joining bool
	run     *member
}

// member is everything that exists while the host is in a cluster.
type member struct {
	ms       atomic.Pointer[membership] // never changed in place: see remember
	creds    auth.Credentials
	etcd     atomic.Pointer[etcd.Member] // nil: not a member of the control plane
	gates    []*gate
	kv       *etcd.Store
	records  atomic.Pointer[cluster.Client] // nil until there is one
	accounts *account.Store
	audit    *audit.Log
	long     *noted.Store // what takes long
	net      *tcp.Network
	node     *node.Node
	publish  *publisher
	streams  *streams
	targets  *targets
	relays   relays
	stores   []opened
	shown    atomic.Pointer[tls.Certificate] // by the API in place of that in creds, see showIncarnation
	page     atomic.Pointer[web.Page]        // shown to who opens the pages by a name; nil: there is none yet
	web      *web.Store
	struck   atomic.Bool            // the other members do not let this host in any more
	away     atomic.Pointer[string] // why the external etcd cannot be used, while it cannot
	full     atomic.Pointer[string] // that the external etcd takes no changes, while it does not
	keys     []keyring.Key          // to begin with
	done     chan struct{}          // closed when the member stops
	tasks    sync.WaitGroup
	traces   *tracing.Tracer
	mu       sync.Mutex // guards stores, and that ms is changed by one at a time
	taking   sync.Mutex // held while a file or device is being taken into use
}

// Options are what a Host is started with.
type Options struct {
	Config  config.Config
	Version string
	Log     *slog.Logger
	Tail    *telemetry.Tail // what it has logged lately; nil: nobody keeps that

	order *recoveryOrder // to carry out first
}

// Start opens the data directory, serves the API on its socket and, if the
// host is a member of a cluster, everything else.
func Start(o Options) (*Host, error) {
	if err := dontDump(); err != nil {
		return nil, err
	}
	place, err := program.Own()
	if err != nil {
		return nil, err
	}
	dir, err := openDataDir(o.Config.DataDir, newUUID)
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: o.Config, version: o.Version, log: o.Log.With("host", o.Config.Name), tail: o.Tail, began: time.Now(), dir: dir,
		rehearsals: make(chan struct{}, maxRehearsals), program: place, again: make(chan *recoveryOrder, 1), becomes: make(chan struct{}, 1), stopped: make(chan struct{})}
	if h.traces, err = h.openTraces(); err != nil {
		return nil, err
	}
	h.figures = h.openFigures()
	if o.order != nil {
		if _, h.failed = h.rebuild(o.order); h.failed != nil {
			h.log.Error("the control plane was not rebuilt; this host goes on as before", "error", h.failed)
		}
	}
	if err := h.start(o.order); err != nil {
		h.Stop()
		return nil, err
	}
	return h, nil
}

func newUUID() (holdfast.UUID, error) { return holdfast.NewUUID(rand.Reader) }

func (h *Host) start(after *recoveryOrder) (err error) {
	if err := h.startMachines(); err != nil {
		return err
	}
	fetching, err := fetchPolicy(h.cfg.Fetch)
	if err != nil {
		return err
	}
	h.api = httpapi.New(httpapi.Options{Backend: h, Version: h.version, Log: h.log, Peer: peer, Accounts: h.accounts, Pages: h.pages, Audit: h.audit, Once: h.onceLog,
		Tasks: h.longTasks, Alerts: h.alerts, AlertLost: h.alertLost, Fetch: fetching, Trace: h.traces.Call})
	ms, err := h.dir.membership()
	if err != nil {
		return err
	}
	switch {
	case ms == nil:
	case h.ended(ms):
		h.standBy(*ms)
	default:
		if err := h.enterAgain(*ms, after); err != nil {
			return err
		}
	}
	return h.api.ServeUnix(h.cfg.Socket)
}

// startMachines starts what runs VMs and offers them their disks.
func (h *Host) startMachines() error {
	if h.cfg.Witness {
		h.hyper = noMachines{h.cfg.Name}
		return nil
	}
	if h.cfg.KeepAwake == "auto" {
		h.awake = awake.Open()
	}
	hyper, err := qemu.New(qemu.Config{Dir: h.dir.file("vm"), Accelerator: h.cfg.Accelerator, Log: h.log})
	if err != nil {
		return err
	}
	h.hyper = hyper
	h.exports, err = nbd.New(nbd.Config{Dir: h.dir.file("nbd"), Log: h.log, Awake: h.awake})
	return err
}

// enterAgain is enter at the start of a process. A host whose member of the
// control plane cannot be started does no work, but if it has kept the records it
// can be asked to rebuild it.
func (h *Host) enterAgain(ms membership, after *recoveryOrder) error {
	err := h.enter(ms, after)
	if !holdfast.IsKind(err, holdfast.Damaged) && !errors.Is(err, errLeft) {
		return err
	}
	if _, _, _, kerr := h.shelf().Newest(); kerr != nil && !errors.Is(err, errLeft) {
		return err
	}
	h.waits = err
	h.log.Error("this host does no work", "error", err)
	return h.answerAdmins(ms)
}

// answerAdmins serves the API to administrators, from anywhere, while this host does
// no work: who else is a member it cannot know.
func (h *Host) answerAdmins(ms membership) error {
	creds, err := auth.LoadCredentials(h.dir.file("pki"), ms.credential())
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", h.cfg.Listen.API)
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "API: listen on %s: %w", h.cfg.Listen.API, err)
	}
	h.api.ServeTLS(l, auth.ServerTLS(creds, func(id auth.Identity) error {
		if id.Kind != auth.Admin {
			return holdfast.Errorf(holdfast.Unavailable, "this host does no work")
		}
		return nil
	}))
	return nil
}

// enter starts everything of a member host, after a recovery with its keys.
func (h *Host) enter(ms membership, after *recoveryOrder) error {
	m := &member{done: make(chan struct{}), traces: h.traces}
	m.ms.Store(&ms)
	if after != nil {
		m.keys = after.keys
	}
	if err := h.build(m); err != nil {
		m.stop(h.log)
		return err
	}
	h.mu.Lock()
	h.run = m
	h.mu.Unlock()
	return nil
}

// firstPicture is how long a host that has just become a member waits to see
// the cluster, so that the next request finds it.
const firstPicture = 10 * time.Second

func (m *member) awaitPicture() {
	m.node.Cluster.WaitFor(func(s *cluster.State) bool { return s.Rev > 0 }, firstPicture)
}

func (h *Host) build(m *member) (err error) {
	if err := h.checkRole(*m.ms.Load()); err != nil {
		return err
	}
	if err := h.checkControl(*m.ms.Load()); err != nil {
		return err
	}
	if m.creds, err = auth.LoadCredentials(h.dir.file("pki"), m.ms.Load().credential()); err != nil {
		return err
	}
	if err := h.startKV(m, false); err != nil {
		return err
	}
	m.accounts = account.Open(account.Config{KV: m.kv, Clock: clock.System{}, Rand: rand.Reader, Log: h.log})
	m.web = newWebStore(m)
	h.loadPage(m)
	m.audit = audit.Open(audit.Config{KV: m.kv, Clock: clock.System{}, Log: h.log, Host: h.cfg.Name})
	m.long = noted.Open(noted.Config{KV: m.kv, Clock: clock.System{}, Rand: rand.Reader, Log: h.log, Host: h.dir.id.Host})
	m.net = tcp.New(tcp.Config{
		Self: h.dir.id.Host, Listen: h.cfg.Listen.Transport, Log: h.log, Clock: clock.System{},
		Server:    auth.ServerTLS(m.creds, nil),
		Client:    auth.ClientTLS(m.creds, nil),
		Directory: m.address,
		Member:    m.isMember,
	})
	m.streams = &streams{dial: m.dialHere, open: make(map[uint64]*stream), target: func(e holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error) {
		return m.targets.arrive(e, group, from)
	}}
	m.streams.install(m.net)
	boot, err := newUUID()
	if err != nil {
		return err
	}
	seams := node.Seams{Clock: clock.System{}, Rand: rand.Reader, KV: m.kv, Net: m.net, Hyper: h.hyper, Voters: h.voters(m)}
	m.publish = newPublisher(h)
	if !h.cfg.Witness {
		seams.Exports = h.exports
		if seams.Watchdog, err = cgroup.Start(cgroup.Config{Socket: h.dir.file("watchdog.sock"), Machines: h.dir.file("vm")}); err != nil {
			return err
		}
	}
	m.node = node.New(node.Config{Host: h.alive(holdfast.BootID{UUID: boot}), Witness: h.cfg.Witness, Log: h.log, RebuildRate: int64(h.cfg.RebuildRate), Agent: func(c *agent.Config) {
		if c.Seed, c.Boot = h.seed, h.kernel; !h.cfg.Witness {
			c.Published = m.publish.set
		}
	}, Floor: h.floor(*m.ms.Load()), Retire: func(d cluster.Disk) error { return h.retireDisk(m, d) },
		Reopen: func(was *store.Store) (*store.Store, error) { return h.reopenDisk(m, was) },
	}, seams)
	m.records.Store(m.node.Cluster)
	m.targets = newTargets(h, m)
	for _, k := range m.keys {
		m.node.Keys.Add(k)
	}
	h.loadKeyFile(m)
	for _, path := range m.ms.Load().Disks {
		if err := h.openDisk(m, path); err != nil {
			m.node.AwaitDisk(path, err, func() (gone bool, err error) { return h.openAgain(m, path) })
		}
	}
	if err := m.net.Start(); err != nil {
		return err
	}
	if err := m.node.Start(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", h.cfg.Listen.API)
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "API: listen on %s: %w", h.cfg.Listen.API, err)
	}
	guests := auth.GuestServerTLS(m.creds, m.allow)
	guests.GetCertificate = m.certificate
	h.api.ServeTLS(l, guests)
	m.tasks.Go(func() { h.followHosts(m) })
	m.tasks.Go(func() { h.followPages(m) })
	m.tasks.Go(func() { h.watchSite(m) })
	m.tasks.Go(func() { h.answerOnLink(m) })
	m.tasks.Go(func() { h.askStruck(m) })
	m.tasks.Go(func() { h.askEnded(m) })
	m.tasks.Go(func() { h.followMove(m) })
	m.tasks.Go(func() { h.prove(m, holdfast.BootID{UUID: boot}) })
	m.tasks.Go(func() { h.keepRecords(m) })
	m.tasks.Go(func() { h.keepFigures(m) })
	if h.traces != nil {
		m.tasks.Go(func() { h.traceFailOvers(m) })
	}
	if m.ms.Load().External {
		m.tasks.Go(func() { h.watchEtcd(m) })
	}
	if h.cfg.Witness {
		return nil
	}
	m.tasks.Go(func() { h.runSchedules(m) })
	m.tasks.Go(func() { h.renewMemory(m) })
	m.tasks.Go(func() { h.endLostConnections(m) })
	m.tasks.Go(m.targets.run)
	if h.cfg.NBDTCP == "" {
		return nil
	}
	conf := auth.ServerTLS(m.creds, m.allow)
	conf.MinVersion = tls.VersionTLS12 // initiators are others' programs, and some know no later one
	_, err = h.exports.ListenTLS(h.cfg.NBDTCP, conf)
	return err
}

// address finds a host's transport address for the network.
func (m *member) address(id holdfast.HostID) (string, bool) {
	host, ok := m.node.Cluster.State().Hosts[id]
	return host.Val.Addr, ok
}

// isMember asks the cluster's records, never a certificate's dates, whether a
// proved identity is a member host.
// A host that has just started waits for those records rather than turn
// others away.
func (m *member) isMember(id auth.Identity) bool {
	m.node.Cluster.WaitFor(func(s *cluster.State) bool { return s.Rev > 0 }, membershipWait)
	return m.allow(id) == nil
}

// membershipWait is less than what a host waits for another to let it in.
const membershipWait = 3 * time.Second

// allow decides who gets through TLS: member hosts with the key they joined
// with, and admins.
func (m *member) allow(id auth.Identity) error {
	if id.Kind == auth.Admin {
		return nil
	}
	st := m.node.Cluster.State()
	host, ok := st.Hosts[id.Host]
	switch {
	case st.Rev == 0:
		return holdfast.Errorf(holdfast.Unavailable, "this host has not read the membership yet")
	case !ok:
		return holdfast.Errorf(holdfast.Denied, "host %s is not a member", id.Host.Short())
	case !auth.SameHash(host.Val.CertKey, id.KeyHash):
		return holdfast.Errorf(holdfast.Denied, "host %s joined with another key", host.Val.Name)
	}
	return nil
}

// peer says who showed a certificate that was let in: an administrator, or a host
// of the cluster that hands on what somebody asked of it.
func peer(cs tls.ConnectionState) (*account.Principal, error) {
	id, err := auth.PeerIdentity(cs)
	if err != nil {
		return nil, err
	}
	p := &account.Principal{Kind: string(id.Kind), Name: id.Name, Role: account.ClusterAdmin}
	if id.Kind == auth.Host {
		p.Name = id.Host.String()
	}
	return p, nil
}

// accounts are those of the cluster.
func (h *Host) accounts() (*account.Store, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return m.accounts, nil
}

// audit is the record of who did what in the cluster.
func (h *Host) audit() (*audit.Log, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return m.audit, nil
}

// longTasks are what takes long in the cluster.
func (h *Host) longTasks() (*noted.Store, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return m.long, nil
}

// alive is what the host says of itself at first.
func (h *Host) alive(boot holdfast.BootID) cluster.Alive {
	accel, _ := h.hyper.Accelerator()
	return cluster.Alive{
		Host: h.dir.id.Host, Boot: boot, CPUs: runtime.NumCPU(), MemoryMiB: memoryMiB(),
		Accelerator: accel, Sandbox: h.hyper.Sandbox(), Version: h.version, UEFI: h.hyper.UEFI(),
	}
}

func memoryMiB() int {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return int(uint64(si.Totalram) * uint64(si.Unit) >> 20)
}

// Stop ends the process's work in order. Machines go on running.
func (h *Host) Stop() {
	close(h.stopped)
	h.tasks.Wait()
	if h.api != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		h.api.Close(ctx)
		cancel()
	}
	h.mu.Lock()
	m := h.run
	h.run = nil
	h.mu.Unlock()
	if m != nil {
		m.stop(h.log)
	}
	if h.exports != nil {
		h.exports.Close()
		h.awake.Close()
	}
	if h.hyper != nil {
		h.hyper.Close()
	}
	os.Remove(h.cfg.Socket)
	h.traces.Close()
	h.dir.close()
}

// lastCalls is how long the control plane has for what a host that stops still
// asks of it: to be answered, if anybody is there.
const lastCalls = time.Second

// stop ends a member's parts in the reverse order of build; parts that were
// not made yet are nil.
func (m *member) stop(log *slog.Logger) {
	if m.node != nil {
		m.node.LeaveKeys()
	}
	if m.kv != nil {
		m.kv.Hurry(lastCalls)
	}
	close(m.done)
	if m.targets != nil {
		m.targets.wake.Set()
	}
	m.tasks.Wait()
	if m.targets != nil {
		m.targets.close()
	}
	if m.publish != nil {
		m.publish.close()
	}
	if m.node != nil {
		m.node.Stop()
	}
	if m.net != nil {
		m.net.Close()
	}
	for _, st := range m.stores {
		if err := st.close(); err != nil { // its lock goes with it: the process may go on
			log.Error("a disk was not closed cleanly", "disk", st.Identity().Disk.Short(), "error", err)
		}
	}
	if m.accounts != nil {
		m.accounts.Close()
		m.audit.Close()
	}
	if m.long != nil {
		m.long.Close()
	}
	if m.kv != nil {
		m.kv.Close()
	}
	if e := m.etcd.Load(); e != nil {
		e.Close()
	}
	for _, g := range m.gates {
		g.close()
	}
}

// member returns the running membership, or why there is none.
func (h *Host) member() (*member, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == nil && h.waits != nil {
		return nil, h.waits
	}
	if h.run == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host is in no cluster yet; run 'holdfast cluster init' here, or 'holdfast host join CODE' with a code from a member")
	}
	return h.run, nil
}
