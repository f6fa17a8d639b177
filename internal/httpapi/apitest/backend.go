// Package apitest is an in-memory httpapi.Backend for tests of the API, the
// client and the CLI. It keeps records as a cluster would commit them, and
// acts at once: a VM that is started runs.
package apitest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/series"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// epoch0 is the time of everything the fake makes.
func epoch0() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// Backend is the fake. Tests may change St, Rep and Busy between calls.
type Backend struct {
	mu      sync.Mutex
	Me      httpapi.Self
	St      *cluster.State
	Rep     httpapi.Report
	Busy    v1.Works
	Content map[holdfast.VolumeID][]byte     // of imported images
	Fail    error                            // if set, every change fails with it
	Space   int64                            // bytes an image may have; 0: no limit
	CA      []byte                           // what joining hosts are given, PEM
	Echo    func(line string) string         // what the console answers
	Place   *program.Place                   // where programs go that are sent; nil: none are taken
	Runs    map[holdfast.HostID]upgrade.Host // the programs of hosts; what is not there runs v1.0.0
	Started func(host string) error          // called when one is to become another program; nil: it does
	serial  byte
	lsn     map[holdfast.VolumeID]holdfast.LSN // of the last snapshot
	joined  []v1.JoinRequest
	known   map[holdfast.VolumeID]bool  // whose faults were acknowledged
	codes   map[string]cluster.JoinCode // by secret
}

var _ httpapi.Backend = (*Backend)(nil)

// New returns a host "alpha" in rack "a" that is in no cluster.
func New() *Backend {
	b := &Backend{Content: map[holdfast.VolumeID][]byte{}, codes: map[string]cluster.JoinCode{}, known: map[holdfast.VolumeID]bool{}, lsn: map[holdfast.VolumeID]holdfast.LSN{}}
	b.Me = httpapi.Self{ID: holdfast.HostID{UUID: b.id()}, Name: "alpha", Domain: holdfast.FaultDomain{Rack: "a"},
		Version: "test", Accelerator: "tcg", Why: "no /dev/kvm", Sandbox: "full"}
	return b
}

// Measure implements httpapi.Reader.
func (b *Backend) Measure(m *telemetry.Samples) { m.Truth("holdfast_host_lease_valid", true) }

// id counts identities up, so that goldens stay the same.
func (b *Backend) id() holdfast.UUID {
	b.serial++
	return holdfast.UUID{0: b.serial, 6: 0x40, 8: 0x80, 15: b.serial}
}

// Three returns a member of a healthy cluster of three racks a, b and c with
// one host and one disk each: alpha, beta and gamma.
func Three() *Backend {
	b := New()
	if _, err := b.InitCluster(context.Background(), "field"); err != nil {
		panic(err)
	}
	b.addHost(b.Me.ID, "alpha", "a")
	b.addHost(holdfast.HostID{UUID: b.id()}, "beta", "b")
	b.addHost(holdfast.HostID{UUID: b.id()}, "gamma", "c")
	b.St.Leader = b.Me.ID
	return b
}

// Host returns the identity of a host by name.
func (b *Backend) Host(name string) holdfast.HostID {
	for id, h := range b.St.Hosts {
		if h.Val.Name == name {
			return id
		}
	}
	panic("no host " + name)
}

func (b *Backend) addHost(id holdfast.HostID, name, rack string) {
	n := len(b.St.Hosts) + 1
	put(b, b.St.Hosts, id, cluster.Host{ID: id, Name: name, Domain: holdfast.FaultDomain{Rack: rack}, Voter: true,
		Addr: fmt.Sprintf("127.0.0.%d:7441", n), APIAddr: fmt.Sprintf("127.0.0.%d:7440", n)})
	d := cluster.Disk{ID: holdfast.DiskID{UUID: b.id()}, Host: id, Path: "/dev/vdb", Size: 8 << 30}
	put(b, b.St.Disks, d.ID, d)
	put(b, b.St.Alive, id, cluster.Alive{Host: id, CPUs: 2, MemoryMiB: 4096, Accelerator: "tcg", Sandbox: "full",
		Version: "test", Wall: epoch0(), Disks: []cluster.DiskUse{{Disk: d.ID, Total: 8 << 30, Free: 6 << 30}}})
}

func put[K comparable, T any](b *Backend, m map[K]cluster.Versioned[T], k K, v T) {
	b.St.Rev++
	m[k] = cluster.Versioned[T]{Mod: b.St.Rev, Val: v}
}

// Lose makes a host disappear, as a lease that ran out does.
func (b *Backend) Lose(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.St.Alive, b.Host(name))
	b.St.Rev++
}

// Rehearse implements httpapi.Rehearser: on a copy of everything.
func (b *Backend) Rehearse(ctx context.Context) (httpapi.Changer, func(), error) {
	st, err := b.State(ctx)
	if err != nil {
		return nil, nil, err
	}
	for id, v := range st.VMs {
		v.Val.Disks = slices.Clone(v.Val.Disks)
		st.VMs[id] = v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Backend{Me: b.Me, St: st, Rep: b.Rep, Busy: b.Busy, Content: maps.Clone(b.Content), Fail: b.Fail, Space: b.Space, serial: b.serial,
		lsn: maps.Clone(b.lsn), known: maps.Clone(b.known), codes: maps.Clone(b.codes)}, func() {}, nil
}

// Self implements httpapi.Backend.
func (b *Backend) Self() httpapi.Self {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Me
}

// State implements httpapi.Backend; the maps are copies.
func (b *Backend) State(context.Context) (*cluster.State, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.St == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "host %s is in no cluster; run 'holdfast cluster init' or 'holdfast host join'", b.Me.Name)
	}
	s := *b.St
	s.Hosts, s.Alive, s.Disks = maps.Clone(s.Hosts), maps.Clone(s.Alive), maps.Clone(s.Disks)
	s.Pools = maps.Clone(s.Pools)
	s.Volumes, s.VMs, s.Machines = maps.Clone(s.Volumes), maps.Clone(s.VMs), maps.Clone(s.Machines)
	s.Schedules = maps.Clone(s.Schedules)
	s.Incidents, s.Exports, s.Serving = maps.Clone(s.Incidents), maps.Clone(s.Exports), maps.Clone(s.Serving)
	return &s, nil
}

// AwaitChange implements httpapi.Reader: it looks again and again.
func (b *Backend) AwaitChange(after kv.Rev, most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b.mu.Lock()
		changed := b.St != nil && b.St.Rev > after
		b.mu.Unlock()
		if changed {
			return
		}
	}
}

// Report implements httpapi.Backend.
func (b *Backend) Report(context.Context) (httpapi.Report, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Rep, nil
}

// Work implements httpapi.Backend.
func (b *Backend) Work(context.Context, bool) (v1.Works, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Busy, nil
}

// Diagnose implements httpapi.Reader: two hosts answer, one does not.
func (b *Backend) Diagnose(_ context.Context, local bool) (v1.Diagnoses, error) {
	out := v1.Diagnoses{Hosts: []v1.Diagnosis{{Host: "alpha", Version: "test", Stacks: "goroutine profile: total 1\n", Log: "level=INFO msg=begun\n", Config: "rack: a\n"}}}
	if !local {
		out.Hosts = append(out.Hosts, v1.Diagnosis{Host: "beta", Version: "test"})
		out.Silent = []string{"gamma"}
	}
	return out, nil
}

// History implements httpapi.Reader: in every second point the number of the point.
func (b *Backend) History(_ context.Context, to *v1.History, _ holdfast.UUID, w series.Window, local bool) error {
	points := make([]*float64, w.Points)
	for i := range points {
		if v := float64(i); i%2 == 0 {
			points[i] = &v
		}
	}
	to.Metrics = []v1.Metric{{Name: "cpu", Unit: "ratio", Points: points}, {Name: "load", Unit: "load", Points: points}}
	if !local {
		to.Silent = []string{"gamma"}
	}
	return nil
}

// CancelWork implements httpapi.Backend.
func (b *Backend) CancelWork(_ context.Context, id string, _ bool) error {
	return b.change(func() error {
		is := func(w v1.Work) bool { return w.ID == id }
		if !slices.ContainsFunc(b.Busy.Work, is) {
			return holdfast.Errorf(holdfast.NotFound, "there is no task %s; see 'holdfast task list'", id)
		}
		b.Busy.Work = slices.DeleteFunc(b.Busy.Work, is)
		return nil
	})
}

// MuchWork is a host at everything that takes long with the volume "data".
func (b *Backend) MuchWork() []v1.Work {
	var id string
	for _, v := range b.St.Volumes {
		if v.Val.Name == "data" {
			id = v.Val.ID.String()
		}
	}
	return []v1.Work{
		{Kind: "scrub", Host: "alpha", Disk: "alpha:/dev/vdb", Bad: 1, Rebuild: v1.Rebuild{Done: 0.25, Total: 4 << 30, Rate: 64 << 20, LeftSecs: 48}},
		{Kind: "rebuild", Volume: "data", VolumeID: id, Host: "gamma", Rebuild: v1.Rebuild{Done: 0.43, Total: 12 << 30, Rate: 85 << 20, LeftSecs: 80, Part: 1, Parts: 3}},
		{Kind: "resync", Volume: "other", Host: "gamma", Rebuild: v1.Rebuild{Done: 0.9, Total: 1 << 30, Rate: 5 << 20, Limit: 20 << 20, LimitedBy: "the foreground at its disk"}},
		{ID: "5f0c11aa", Kind: "backup", Volume: "data", VolumeID: id, Host: "beta", Rebuild: v1.Rebuild{Done: 0.5, Total: 12 << 30, Rate: 256 << 20, LeftSecs: 24}},
		{Kind: "rebuild", Volume: "third", Host: "gamma", Rebuild: v1.Rebuild{Waits: true, Ahead: 2}},
	}
}

// Activity implements httpapi.Backend.
func (b *Backend) Activity(_ context.Context, id holdfast.VolumeID) (v1.Activity, error) {
	return v1.Activity{Host: "alpha", Epoch: 1, WrittenBytes: 4096, Flushes: 1, ResentBytes: 8192, ResyncDone: 1, Delayed: 7}, nil
}

// Integrity implements httpapi.Backend: every copy was proved an hour after the
// fake's time but the one in the last rack, which has a fault of each volume.
func (b *Backend) Integrity(context.Context, bool) (v1.Integrity, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := v1.Integrity{Disks: []v1.DiskIntegrity{}, Replicas: []v1.ReplicaIntegrity{}}
	at := epoch0().Add(time.Hour)
	for _, d := range b.St.SortedDisks() {
		out.Disks = append(out.Disks, v1.DiskIntegrity{Disk: d.Val.ID.String(), Host: b.St.Hosts[d.Val.Host].Val.Name, Scrubbed: &at})
	}
	for _, v := range b.St.SortedVolumes() {
		for i, r := range v.Val.InSync {
			x := v1.ReplicaIntegrity{Replica: r.ID.String(), Volume: v.Val.Name, Host: b.St.Hosts[r.Host].Val.Name, Disk: r.Disk.String(), Proved: &at, Faults: []v1.Fault{}}
			if i > 0 && i == len(v.Val.InSync)-1 {
				x.Proved = nil
				x.Scrub = &v1.Scrub{Replica: x.Replica, Started: at, Done: 1 << 30, Total: 4 << 30, Rate: 64 << 20, LeftSecs: 48, Bad: 1}
				x.Faults = append(x.Faults, v1.Fault{Volume: x.Volume, Host: x.Host, Disk: x.Disk, Replica: x.Replica, Offset: 8 * holdfast.BlockSize, LSN: "1.7", Hop: "scrub: disk", State: "bad", Known: b.known[v.Val.ID], First: at, Last: at})
			}
			out.Replicas = append(out.Replicas, x)
		}
	}
	return out, nil
}

// ScrubDisk implements httpapi.Backend.
func (b *Backend) ScrubDisk(context.Context, holdfast.DiskID) error {
	return b.change(func() error { return nil })
}

// ScrubVolume implements httpapi.Backend.
func (b *Backend) ScrubVolume(context.Context, holdfast.VolumeID, bool) error {
	return b.change(func() error { return nil })
}

// Acknowledge implements httpapi.Backend.
func (b *Backend) Acknowledge(_ context.Context, id holdfast.VolumeID, _ bool) error {
	return b.change(func() error {
		b.known[id] = true
		return nil
	})
}

// change runs f under the lock unless Fail is set.
func (b *Backend) change(f func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Fail != nil {
		return b.Fail
	}
	return f()
}

// InitCluster implements httpapi.Backend.
func (b *Backend) InitCluster(_ context.Context, name string) (httpapi.Admin, error) {
	err := b.change(func() error {
		if b.Me.InCluster {
			return holdfast.Errorf(holdfast.Conflict, "host %s is in cluster %s already; a host is in one cluster", b.Me.Name, b.St.Cluster.Name)
		}
		b.Me.InCluster = true
		b.St = &cluster.State{Rev: 1, Cluster: cluster.Cluster{ID: holdfast.ClusterID{UUID: b.id()}, Name: name, Format: 1},
			Hosts:     map[holdfast.HostID]cluster.Versioned[cluster.Host]{},
			Alive:     map[holdfast.HostID]cluster.Versioned[cluster.Alive]{},
			Pools:     map[holdfast.PoolID]cluster.Versioned[cluster.Pool]{},
			Disks:     map[holdfast.DiskID]cluster.Versioned[cluster.Disk]{},
			Volumes:   map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{},
			VMs:       map[holdfast.VMID]cluster.Versioned[cluster.VM]{},
			Machines:  map[holdfast.VMID]cluster.Versioned[cluster.Machine]{},
			Incidents: map[string]cluster.Versioned[cluster.Incident]{},
			Schedules: map[string]cluster.Versioned[cluster.BackupSchedule]{},
			Exports:   map[holdfast.ExportID]cluster.Versioned[cluster.Export]{}, Serving: map[holdfast.ExportID]cluster.Versioned[cluster.Serving]{}}
		return nil
	})
	return httpapi.Admin{CA: []byte("CA\n"), Cert: []byte("CERT\n"), Key: []byte("KEY\n")}, err
}

// CreateJoinCode implements httpapi.Backend.
func (b *Backend) CreateJoinCode(_ context.Context, rack string, _ time.Duration) (string, error) {
	var code v1.JoinCode
	err := b.change(func() error {
		id := b.id()
		code = v1.JoinCode{API: []string{"127.0.0.1:7440"}, Secret: id[:]}
		b.codes[hex.EncodeToString(id[:])] = cluster.JoinCode{Hash: code.ID(), Rack: rack, Created: epoch0()}
		return nil
	})
	return code.String(), err
}

// JoinCodes implements httpapi.Backend.
func (b *Backend) JoinCodes(context.Context) (out []cluster.JoinCode, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, secret := range slices.Sorted(maps.Keys(b.codes)) {
		out = append(out, b.codes[secret])
	}
	return out, nil
}

// RevokeJoinCode implements httpapi.Backend.
func (b *Backend) RevokeJoinCode(_ context.Context, hash string) error {
	return b.change(func() error {
		maps.DeleteFunc(b.codes, func(_ string, j cluster.JoinCode) bool { return j.Hash == hash })
		return nil
	})
}

// Join implements httpapi.Backend.
func (b *Backend) Join(_ context.Context, code v1.JoinCode) error {
	return b.change(func() error { b.Me.InCluster = true; return nil })
}

// Admit implements httpapi.Backend.
func (b *Backend) Admit(_ context.Context, r v1.JoinRequest) (v1.JoinAnswer, error) {
	err := b.change(func() error {
		if _, ok := b.codes[r.Secret]; !ok {
			return holdfast.Errorf(holdfast.Denied, "the join code is wrong, spent or older than an hour; make a new one with 'holdfast host code'")
		}
		delete(b.codes, r.Secret)
		b.joined = append(b.joined, r)
		return nil
	})
	return v1.JoinAnswer{ClusterName: "field", CA: string(b.CA)}, err
}

// Drain implements httpapi.Backend.
func (b *Backend) Drain(_ context.Context, id holdfast.HostID, on bool, guestSeconds int) error {
	return b.change(func() error {
		h := b.St.Hosts[id].Val
		h.Drained, h.DrainSeconds = on, guestSeconds
		put(b, b.St.Hosts, id, h)
		if a, ok := b.St.Alive[id]; ok {
			a.Val.Drained = on
			b.St.Alive[id] = a
		}
		for _, m := range placement.Moves(placement.Look(b.St), nil) {
			if v := b.St.VMs[m.VM].Val; !m.To.IsZero() {
				b.runOn(&v, m.To)
				put(b, b.St.VMs, v.ID, v)
			}
		}
		return nil
	})
}

// RemoveHosts implements httpapi.Backend.
func (b *Backend) RemoveHosts(_ context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error {
	return b.change(func() error {
		if err := placement.PlanRemoval(b.St, ids, lost).Allow(giveUp); err != nil {
			return err
		}
		for _, id := range ids {
			for _, d := range b.St.SortedDisks() {
				if d.Val.Host == id {
					delete(b.St.Disks, d.Val.ID)
				}
			}
			delete(b.St.Hosts, id)
			delete(b.St.Alive, id)
		}
		return nil
	})
}

// AddDisk implements httpapi.Backend.
func (b *Backend) AddDisk(_ context.Context, n httpapi.NewDisk) (cluster.Disk, error) {
	var d cluster.Disk
	return d, b.change(func() error {
		d = cluster.Disk{ID: holdfast.DiskID{UUID: b.id()}, Host: b.Me.ID, Path: n.Path, Size: cmp.Or(n.Size, n.RAM, 1<<30), Pool: n.Pool.ID, RAM: n.RAM > 0}
		if d.RAM {
			d.Path = "ram1"
		}
		put(b, b.St.Disks, d.ID, d)
		alive := b.St.Alive[d.Host]
		alive.Val.Disks = append(slices.Clone(alive.Val.Disks), cluster.DiskUse{Disk: d.ID, Total: d.Size, Free: d.Size})
		b.St.Alive[d.Host] = alive
		return nil
	})
}

// EvacuateDisk implements httpapi.Backend. Nothing moves by itself; a disk that
// holds nothing is given back at once.
func (b *Backend) EvacuateDisk(_ context.Context, id holdfast.DiskID, on, remove bool) error {
	return b.change(func() error {
		d := b.St.Disks[id].Val
		d.Evacuate, d.Remove = on, on && (remove || d.Remove)
		if d.Remove && len(placement.Holds(b.St, id)) == 0 {
			delete(b.St.Disks, id)
			return nil
		}
		put(b, b.St.Disks, id, d)
		return nil
	})
}

// ReplaceDisk implements httpapi.Backend.
func (b *Backend) ReplaceDisk(ctx context.Context, id holdfast.DiskID, n httpapi.NewDisk) (cluster.Disk, error) {
	d, err := b.AddDisk(ctx, n)
	if err == nil {
		err = b.EvacuateDisk(ctx, id, true, true)
	}
	return d, err
}

// CreatePool implements httpapi.Backend.
func (b *Backend) CreatePool(_ context.Context, p cluster.Pool) (cluster.Pool, error) {
	return p, b.change(func() error {
		p.ID, p.Created = holdfast.PoolID{UUID: b.id()}, epoch0()
		put(b, b.St.Pools, p.ID, p)
		return nil
	})
}

// DeletePool implements httpapi.Backend.
func (b *Backend) DeletePool(_ context.Context, id holdfast.PoolID) error {
	return b.change(func() error { delete(b.St.Pools, id); return nil })
}

// InitKey implements httpapi.Backend.
func (b *Backend) InitKey(_ context.Context, k httpapi.NewKey) error {
	return b.change(func() error {
		if b.St.Keyring.Mod != 0 {
			return holdfast.Errorf(holdfast.Exists, "the cluster has a key already")
		}
		return b.setKey(k)
	})
}

func (b *Backend) setKey(k httpapi.NewKey) error {
	src := keyring.Source{From: keyring.File, Created: epoch0()}
	key := keyring.Key{1}
	if k.Key != nil {
		key = *k.Key
	} else {
		src.From, src.Argon = keyring.Passphrase, &keyring.Argon{Salt: make([]byte, 16), Time: 1, MemoryKiB: 64, Threads: 1}
	}
	src.ID = key.ID()
	b.St.Keyring = cluster.Versioned[keyring.Record]{Mod: 1, Val: keyring.Record{Keys: []keyring.Source{src}}}
	b.load(src.ID)
	return nil
}

// UnlockKey implements httpapi.Backend.
func (b *Backend) UnlockKey(_ context.Context, k httpapi.NewKey) error {
	return b.change(func() error {
		if b.St.Keyring.Mod == 0 {
			return holdfast.Errorf(holdfast.NotFound, "the cluster has no key")
		}
		if k.Key != nil && k.Key.ID() != b.St.Keyring.Val.Current().ID {
			return holdfast.Errorf(holdfast.Denied, "that is not the cluster's key")
		}
		b.load(b.St.Keyring.Val.Current().ID)
		return nil
	})
}

// load puts a key into this host's memory. The caller holds mu.
func (b *Backend) load(id keyring.ID) {
	a := b.St.Alive[b.Me.ID]
	a.Val.Keys = []keyring.ID{id}
	b.St.Alive[b.Me.ID] = a
}

// Write has a host say that it writes a volume for an initiator.
func (b *Backend) Write(host, volume string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, a := range b.St.Alive {
		for vol, v := range b.St.Volumes {
			if b.St.Hosts[id].Val.Name == host && v.Val.Name == volume {
				a.Val.Writes = append(a.Val.Writes, vol)
			}
		}
		b.St.Alive[id] = a
	}
}

// Lock has every host forget the cluster key, as after a restart of all.
func (b *Backend) Lock() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, a := range b.St.Alive {
		a.Val.Keys = nil
		b.St.Alive[id] = a
	}
}

// RotateKey implements httpapi.Backend.
func (b *Backend) RotateKey(_ context.Context, k httpapi.NewKey) error {
	return b.change(func() error { return b.setKey(k) })
}

// Console implements httpapi.Backend: it prints a banner and answers lines
// with Echo.
func (b *Backend) Console(_ context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m, ok := b.St.Machines[id]; !ok || m.Val.State != "running" {
		return nil, holdfast.Errorf(holdfast.Unavailable, "VM %s does not run; start it with 'holdfast vm start'", b.St.VMs[id].Val.Name)
	}
	p := &port{echo: b.Echo}
	p.cond = sync.NewCond(&p.mu)
	p.out.WriteString("booted\r\n")
	return p, nil
}

// Screen implements httpapi.Backend: a screen that greets as RFB does, and then says
// nothing.
func (b *Backend) Screen(ctx context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error) {
	c, err := b.Console(ctx, id, local)
	if p, ok := c.(*port); ok {
		p.out.Reset()
		p.out.WriteString("RFB 003.008\n")
	}
	return c, err
}

type port struct {
	mu     sync.Mutex
	cond   *sync.Cond
	out    bytes.Buffer
	closed bool
	echo   func(string) string
}

func (p *port) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.out.Len() == 0 && !p.closed {
		p.cond.Wait()
	}
	if p.out.Len() == 0 {
		return 0, io.EOF
	}
	return p.out.Read(b)
}

func (p *port) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, errors.New("closed")
	}
	for line := range strings.Lines(string(b)) {
		if line == "halt\n" {
			p.closed = true
		} else if p.echo != nil {
			p.out.WriteString(p.echo(line))
		}
	}
	p.cond.Broadcast()
	return len(b), nil
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.cond.Broadcast()
	return nil
}

// Recovery implements httpapi.Backend: there has been none.
func (b *Backend) Recovery(context.Context) (v1.Recovery, error) {
	return v1.Recovery{State: "none", Cluster: b.St.Cluster.Name, Stay: []string{}, Shut: []v1.RecoveryHost{}, Volumes: []v1.RecoveryVolume{}, VMs: []string{}, Warnings: []string{}}, nil
}

// RecoveryPlan implements httpapi.Backend: the fake's control plane is never lost.
func (b *Backend) RecoveryPlan(context.Context, httpapi.RecoverFrom) (v1.Recovery, error) {
	return v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "the control plane has its majority; there is nothing to recover")
}

// Recover implements httpapi.Backend.
func (b *Backend) Recover(ctx context.Context, _ string, from httpapi.RecoverFrom) (v1.Recovery, error) {
	return b.RecoveryPlan(ctx, from)
}

// SetReport sets what State does not say.
func (b *Backend) SetReport(r httpapi.Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Rep = r
}

// KVReady implements httpapi.Backend: the fake has no external etcd.
func (b *Backend) KVReady(context.Context) v1.KVReady {
	return v1.KVReady{Endpoints: []string{}, Error: "it was started without an external etcd"}
}

// MovePlan implements httpapi.Backend.
func (b *Backend) MovePlan(ctx context.Context) (v1.KVMove, error) {
	return v1.KVMove{}, holdfast.Errorf(holdfast.Conflict, "this host was started without an external etcd")
}

// MoveKV implements httpapi.Backend.
func (b *Backend) MoveKV(ctx context.Context, _ string) (v1.KVMove, error) { return b.MovePlan(ctx) }

// CancelMove implements httpapi.Backend.
func (b *Backend) CancelMove(context.Context) error {
	return holdfast.Errorf(holdfast.Conflict, "no move of the control plane is under way")
}
