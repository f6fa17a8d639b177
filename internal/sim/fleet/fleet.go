package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	random "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/audit"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/once"
	"github.com/holdfast-cloud/holdfast/internal/reconcile"
	"github.com/holdfast-cloud/holdfast/internal/serve"
	"github.com/holdfast-cloud/holdfast/internal/task"
)

// Fleet is a simulated cluster that answers. Its methods may be called from any
// goroutine. The host that answers is the first one.
type Fleet struct {
	serve.Deeds
	refusals
	o    Options
	plan *plan
	self cluster.Host
	log  *slog.Logger

	kv       *memkv.Handle
	accounts *account.Store
	audit    *audit.Log
	tasks    *task.Store
	loop     *reconcile.Loop
	office   *cluster.Election
	api      *httpapi.Server
	listener net.Listener
	dir      string // of the socket

	ctx  context.Context // ends with the fleet
	stop context.CancelFunc
	runs sync.WaitGroup

	mu     sync.Mutex
	lives  map[holdfast.HostID]*cluster.KeepAlive // of the hosts that are up
	born   map[holdfast.HostID]time.Time          // since when
	starts map[holdfast.VMID]time.Time            // when what is being started will run
	ends   map[holdfast.VMID]time.Time            // when what is being shut down is off
	copies map[holdfast.ReplicaID]*copying
}

// Start makes a fleet and has it answer; Close ends it.
func Start(o Options) (*Fleet, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	f := &Fleet{o: o, log: o.Log, plan: made(o, time.Now().UTC()), lives: map[holdfast.HostID]*cluster.KeepAlive{}, born: map[holdfast.HostID]time.Time{},
		starts: map[holdfast.VMID]time.Time{}, ends: map[holdfast.VMID]time.Time{}, copies: map[holdfast.ReplicaID]*copying{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	if err := f.start(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) start() (err error) {
	if f.listener, err = net.Listen("tcp", f.o.Listen); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "sim: listen on %s: %w; give another address with --listen", f.o.Listen, err)
	}
	f.plan.hosts[0].APIAddr = f.listener.Addr().String()
	f.self = f.plan.hosts[0]
	seed := func(name string) *random.Rand { return random.New(random.NewPCG(f.o.Seed, uint64(len(name)))) }
	f.kv = memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: seed}).Handle(f.self.Name, clock.System{})
	f.Deeds = serve.NewDeeds(cluster.Open(f.kv, clock.System{}, f.log), f.self.ID, f.plan.alive[0].Boot, keyring.NewRing(), f.log)
	if err := fill(f.Records, f.plan); err != nil {
		return fmt.Errorf("sim: the records of the fleet: %w", err)
	}
	for i := range f.plan.hosts {
		f.rise(f.plan.alive[i], time.Time{})
	}
	everybody := func(st *cluster.State) bool { return len(st.Alive) == len(f.plan.hosts) }
	if !f.Records.WaitFor(everybody, time.Minute) {
		return holdfast.Errorf(holdfast.Unavailable, "sim: the hosts of the fleet did not come to life within a minute: this machine is too slow for %d", f.o.Hosts)
	}
	f.office = f.Records.Campaign(f.lives[f.self.ID], f.self.ID)
	f.loop = reconcile.Start(reconcile.Options{Clock: clock.System{}, Cluster: f.Records, Office: f.office, Rand: rand.Reader, Log: f.log})
	f.accounts = account.Open(account.Config{KV: f.kv, Clock: clock.System{}, Rand: rand.Reader, Log: f.log})
	f.audit = audit.Open(audit.Config{KV: f.kv, Clock: clock.System{}, Log: f.log, Host: f.self.Name})
	f.tasks = task.Open(task.Config{KV: f.kv, Clock: clock.System{}, Rand: rand.Reader, Log: f.log, Host: f.self.ID})
	if err := share(f.accounts, f.plan); err != nil {
		return err
	}
	f.runs.Go(f.play)
	if !f.o.Still {
		f.runs.Go(f.days)
	}
	return f.answer()
}

// answer opens the API, over HTTPS and on a socket of its owner's alone.
func (f *Fleet) answer() error {
	creds, err := f.credentials()
	if err != nil {
		return err
	}
	if f.dir, err = os.MkdirTemp("", "holdfast-sim-"); err != nil {
		return holdfast.Errorf(holdfast.IO, "sim: a directory for the socket: %w", err)
	}
	f.api = httpapi.New(httpapi.Options{Backend: f, Version: f.o.Version, Log: f.log,
		Accounts: func() (*account.Store, error) { return f.accounts, nil },
		Audit:    func() (*audit.Log, error) { return f.audit, nil },
		Once:     func() (*once.Log, error) { return &once.Log{KV: f.kv, Clock: clock.System{}}, nil },
		Tasks:    func() (*task.Store, error) { return f.tasks, nil }})
	if err := f.api.ServeUnix(f.Socket()); err != nil {
		return err
	}
	nobody := func(auth.Identity) error {
		return holdfast.Errorf(holdfast.Denied, "a simulated cluster gives out no certificates")
	}
	f.api.ServeTLS(f.listener, auth.GuestServerTLS(creds, nobody))
	return nil
}

// credentials are those of the host that answers, of an authority that nobody keeps.
func (f *Fleet) credentials() (c auth.Credentials, err error) {
	ca, err := auth.NewCA(f.plan.cluster.ID)
	if err != nil {
		return c, err
	}
	key, err := auth.NewKey()
	if err != nil {
		return c, err
	}
	csr, err := auth.CSR(key)
	if err != nil {
		return c, err
	}
	host, _, err := net.SplitHostPort(f.Addr())
	if err != nil {
		return c, err
	}
	cert, err := ca.SignHost(csr, f.self.ID, []string{host})
	return auth.Credentials{CA: ca.Cert, Cert: cert, Key: key}, err
}

// Addr is where the API and the pages are, host:port.
func (f *Fleet) Addr() string { return f.listener.Addr().String() }

// Socket is the path of the API's socket.
func (f *Fleet) Socket() string { return filepath.Join(f.dir, "api.sock") }

// SetupLink returns the link that makes the first administrator.
func (f *Fleet) SetupLink() (string, error) {
	secret, err := f.accounts.SetupLink()
	return "https://" + f.Addr() + "/setup#" + secret, err
}

// Close ends the fleet, of which nothing is kept.
func (f *Fleet) Close() {
	f.stop()
	f.runs.Wait()
	if f.api != nil {
		now, cancel := context.WithCancel(context.Background())
		cancel() // streams do not end by themselves
		f.api.Close(now)
	} else if f.listener != nil {
		f.listener.Close()
	}
	if f.loop != nil {
		f.loop.Stop()
		f.office.Stop()
	}
	f.fall(func(cluster.Host) bool { return true })
	if f.tasks != nil {
		f.tasks.Close()
		f.audit.Close()
		f.accounts.Close()
	}
	if f.Records != nil {
		f.Records.Close()
		_ = f.kv.Close() // it is in memory
	}
	if f.dir != "" {
		_ = os.RemoveAll(f.dir) // it holds a socket that nobody listens on
	}
}

// rise has a host live; what ran there before its birth does not any more.
func (f *Fleet) rise(a cluster.Alive, born time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lives[a.Host], f.born[a.Host] = f.Records.KeepAlive(a), born
}

// fall has hosts fall silent, as those do that have lost their power: their leases
// run out.
func (f *Fleet) fall(which func(cluster.Host) bool) {
	var gone []*cluster.KeepAlive
	f.mu.Lock()
	for _, h := range f.plan.hosts {
		if k := f.lives[h.ID]; k != nil && which(h) {
			gone = append(gone, k)
			delete(f.lives, h.ID)
		}
	}
	f.mu.Unlock()
	var all sync.WaitGroup
	for _, k := range gone {
		all.Go(k.Stop)
	}
	all.Wait()
}
