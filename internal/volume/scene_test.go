package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/seal"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// scene is a few hosts with a disk each, in one world; the test's own script
// runs on the world's clock.
type scene struct {
	t     *testing.T
	w     *simclock.World
	net   *simnet.Net
	seed  uint64
	plain bool // blocks are stored as they are, whatever the seed
	kv    *memkv.Server
	seals map[sealedAs][32]byte // what was encrypted, by key and LSN
	hosts []*sceneHost
	vol   cluster.Volume
	log   *slog.Logger
}

// sceneHost is one host over all its lives.
type sceneHost struct {
	sc    *scene
	id    holdfast.HostID
	disk  *memdisk.Disk
	did   holdfast.DiskID
	lives int

	drained bool
	unused  bool // it says that it does not use its disk

	clk *simclock.Host
	cl  *cluster.Client
	st  *store.Store
	s   *Service

	unheard int // commits of volumes whose answers will be lost
}

// Scenes of most seeds store their blocks compressed, encrypted, or both.

func (sc *scene) compression() string {
	if sc.plain {
		return ""
	}
	return []string{"auto", "", "fast"}[sc.seed%3]
}

func (sc *scene) encrypted() bool { return !sc.plain && sc.seed%4 >= 2 }

// dataKey is the key of an encrypted volume.
func (sc *scene) dataKey(id holdfast.VolumeID) keyring.Key { return sha256.Sum256(id.UUID[:]) }

func (sc *scene) keys(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) {
	if !sc.encrypted() {
		return nil, nil
	}
	keys := map[holdfast.VolumeID]keyring.Key{rec.ID: sc.dataKey(rec.ID)}
	for o := rec.Origin; o != nil; o = nil {
		keys[o.Volume] = sc.dataKey(o.Volume)
	}
	return keys, nil
}

// sealedAs is what one content is sealed under, for ever.
type sealedAs struct {
	key keyring.Key
	lsn uint64
}

// sealed checks invariant 5.
func (sc *scene) sealed(key keyring.Key, nonce [seal.NonceSize]byte, plaintext []byte) {
	as := sealedAs{key, binary.LittleEndian.Uint64(nonce[4:])}
	is := sha256.Sum256(append(nonce[:4:4], plaintext...))
	if was, ok := sc.seals[as]; ok && was != is {
		sc.t.Errorf("two contents were sealed under one key and LSN %v", holdfast.LSN(as.lsn))
	}
	sc.seals[as] = is
}

// opener opens what a volume of the scene has stored.
func (sc *scene) opener(vols ...holdfast.VolumeID) store.Opener {
	x := &sealing{of: make(map[holdfast.VolumeID]*seal.Sealer)}
	x.plain, _ = seal.New(seal.Options{})
	for _, id := range vols {
		k := sc.dataKey(id)
		if o := (seal.Options{Volume: id, Key: (*[seal.KeySize]byte)(&k)}); sc.encrypted() {
			x.of[id], _ = seal.New(o)
		}
	}
	return x
}

// reader makes a seeded stream of bytes.
type reader struct{ *rand.Rand }

func (r reader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return len(b), nil
}

func (sc *scene) uuid(n byte) (u holdfast.UUID) {
	u[0], u[6], u[8], u[15] = n, 0x40, 0x80, n
	return u
}

// play runs script on a scene of n hosts that share one volume of copies
// replicas on the first hosts.
func play(t *testing.T, seed uint64, n, copies int, script func(sc *scene)) {
	t.Helper()
	playScene(t, seed, false, n, copies, script)
}

// playPlain is play where blocks are stored as they are, for scripts that look
// for them on the disks.
func playPlain(t *testing.T, seed uint64, n, copies int, script func(sc *scene)) {
	t.Helper()
	playScene(t, seed, true, n, copies, script)
}

func playScene(t *testing.T, seed uint64, plain bool, n, copies int, script func(sc *scene)) {
	t.Helper()
	w := simclock.NewWorld(seed)
	sc := &scene{t: t, seed: seed, plain: plain, w: w, net: simnet.New(w, simnet.LAN()), seals: make(map[sealedAs][32]byte)}
	level := slog.LevelError
	if os.Getenv("VOLUME_LOG") != "" {
		level = slog.LevelDebug
	}
	sc.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "time" {
			return slog.String("at", w.Now().String())
		}
		return a
	}}))
	sc.kv = memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	for i := range n {
		h := &sceneHost{sc: sc, id: holdfast.HostID{UUID: sc.uuid(byte(i + 1))}, did: holdfast.DiskID{UUID: sc.uuid(byte(i + 101))}}
		h.disk = memdisk.New(64<<20, w.Rand(fmt.Sprint("disk", i)))
		sc.hosts = append(sc.hosts, h)
	}
	done := false
	w.Clock().Go(func() {
		defer func() { done = true }()
		sc.found(copies)
		script(sc)
	})
	if !w.RunUntil(func() bool { return done }, 10*time.Minute) {
		t.Errorf("the script did not end: %v", w)
	}
	var clocks []*simclock.Host
	for _, h := range sc.hosts {
		clocks = append(clocks, h.clk)
	}
	w.Close(clocks...)
}

// found formats the disks, boots the hosts and makes the volume.
func (sc *scene) found(copies int) {
	for _, h := range sc.hosts {
		sc.format(h)
	}
	for _, h := range sc.hosts {
		h.boot()
	}
	c := cluster.Open(sc.kv.Handle("world", sc.w.Clock()), sc.w.Clock(), sc.log)
	sc.must(c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: sc.uuid(99)}, Name: "scene"}, sc.hosts[0].record()))
	for _, h := range sc.hosts[1:] {
		tx := c.Begin()
		tx.PutHost(h.record(), 0)
		_, err := tx.Commit()
		sc.must(err)
	}
	sc.vol = cluster.Volume{ID: holdfast.VolumeID{UUID: sc.uuid(77)}, Name: "vol", Blocks: 1024, Copies: copies, Min: 1, Durability: cluster.OnFlush, Compression: sc.compression()}
	for i, h := range sc.hosts {
		ref := cluster.Replica{ID: holdfast.ReplicaID{UUID: sc.uuid(byte(i + 51))}, Host: h.id, Disk: h.did}
		if i < copies {
			sc.must(sc.hosts[0].s.CreateReplica(ref, sc.vol.ID, sc.vol.Blocks, holdfast.ReplicaID{}, cluster.Snapshot{}))
			sc.vol.InSync = append(sc.vol.InSync, ref)
		}
	}
	tx := c.Begin()
	tx.PutVolume(sc.vol, 0)
	_, err := tx.Commit()
	sc.must(err)
	c.Close()
}

// format makes a host's disk an empty one.
func (sc *scene) format(h *sceneHost) {
	f := sc.w.Host("format", simclock.Skew{})
	fin := sc.w.Clock().NewEvent()
	f.Go(func() {
		dev, err := h.disk.Open(f, memdisk.Options{})
		sc.must(err)
		sc.must(store.Format(dev, store.Identity{Disk: h.did, Host: h.id}, store.Options{Clock: f, Rand: reader{sc.w.Rand("format")}, Log: sc.log, SegmentBytes: 1 << 20}))
		sc.must(dev.Close())
		fin.Set()
	})
	fin.Wait(clock.Forever)
	f.Kill()
}

func (h *sceneHost) record() cluster.Host {
	return cluster.Host{ID: h.id, Name: fmt.Sprintf("h%d", h.id.UUID[0]), Domain: holdfast.FaultDomain{Rack: fmt.Sprintf("r%d", h.id.UUID[0])}, Addr: "127.0.0.1:1", APIAddr: "127.0.0.1:2", CertKey: ""}
}

func (sc *scene) must(err error) {
	if err != nil {
		sc.t.Helper()
		sc.t.Errorf("at %v: %v", sc.w.Now(), err)
		panic("scene ends")
	}
}

// boot begins a new life of the host and returns when it serves.
func (h *sceneHost) boot() {
	sc := h.sc
	h.lives++
	h.clk = sc.w.Host(fmt.Sprint("host", h.id.UUID[0]), simclock.Skew{})
	ready := sc.w.Clock().NewEvent()
	h.clk.Go(func() {
		dev, err := h.disk.Open(h.clk, memdisk.SSD())
		sc.must(err)
		h.st, err = store.Open(dev, store.Options{Clock: h.clk, Rand: reader{sc.w.Rand(fmt.Sprint("store", h.id.UUID[0], h.lives))}, Log: sc.log})
		sc.must(err)
		h.cl = cluster.Open(sc.kv.Handle(h.id.String(), h.clk), h.clk, sc.log)
		ep := sc.net.Open(h.id, h.record().Domain.Rack, h.clk)
		boot := sc.uuid(byte(200 + h.id.UUID[0]))
		boot[1] = byte(h.lives)
		h.s = New(Config{Self: h.id, Boot: holdfast.BootID{UUID: boot}, Clock: h.clk, Rand: reader{sc.w.Rand(fmt.Sprint("svc", h.id.UUID[0], h.lives))}, Net: ep, Records: h, Keys: sc.keys, Sealed: sc.sealed, Drained: sc.drained, Log: sc.log.With("host", h.id.UUID[0])})
		h.s.AddStore(h.st)
		sc.must(ep.Start())
		ready.Set()
	})
	ready.Wait(clock.Forever)
}

func (h *sceneHost) powerCut() {
	h.disk.Crash()
	h.clk.Kill()
}

// stop closes the host's disk in order and ends its life.
func (h *sceneHost) stop() {
	h.on(func() {
		if v := h.s.Opened(h.sc.vol.ID); v != nil {
			v.Close()
		}
		h.sc.must(h.st.Close())
	})
	h.powerCut()
}

// ReadVolume, CommitVolume, ClaimVolume and Alive implement Records.
func (h *sceneHost) ReadVolume(id holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	st, err := h.cl.Refresh()
	if err != nil {
		return cluster.Volume{}, 0, err
	}
	v, ok := st.Volumes[id]
	if !ok {
		return cluster.Volume{}, 0, holdfast.Errorf(holdfast.NotFound, "no volume")
	}
	return v.Val, v.Mod, nil
}

func (h *sceneHost) CommitVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	tx := h.cl.Begin()
	tx.PutVolume(v, mod)
	rev, err := tx.Commit()
	if err == nil && h.unheard > 0 {
		h.unheard--
		return 0, holdfast.Errorf(holdfast.Unknown, "the answer was lost")
	}
	return rev, err
}

func (h *sceneHost) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	return h.CommitVolume(v, mod)
}

func (h *sceneHost) Alive(id holdfast.HostID) bool {
	for _, o := range h.sc.hosts {
		if o.id == id {
			return !o.clk.Dead()
		}
	}
	return false
}

func (h *sceneHost) Uses(r cluster.Replica) bool {
	return h.Alive(r.Host) && slices.ContainsFunc(h.sc.hosts, func(o *sceneHost) bool { return o.id == r.Host && o.did == r.Disk && !o.unused })
}

func (sc *scene) drained(id holdfast.HostID) bool {
	return slices.ContainsFunc(sc.hosts, func(h *sceneHost) bool { return h.id == id && h.drained })
}

// on runs f on a task of the host and waits for it.
func (h *sceneHost) on(f func()) {
	fin := h.sc.w.Clock().NewEvent()
	h.clk.Go(func() { f(); fin.Set() })
	fin.Wait(clock.Forever)
}

// open makes the host the writer.
func (h *sceneHost) open() (v *Volume) {
	h.on(func() {
		var err error
		v, err = h.s.Open(h.sc.vol.ID)
		h.sc.must(err)
	})
	return v
}

// client is a script's way to a volume: one operation at a time.
func (sc *scene) do(v *Volume, r export.Request) error {
	fin := sc.w.Clock().NewEvent()
	var err error
	r.Done = func(_ *export.Request, e error) { err = e; fin.Set() }
	v.s.Clock.Go(func() { v.submit(&r) })
	fin.Wait(clock.Forever)
	return err
}

func fill(tag byte, blocks int) []byte { return bytes.Repeat([]byte{tag}, blocks*holdfast.BlockSize) }

func (sc *scene) write(v *Volume, addr int64, data []byte) {
	sc.t.Helper()
	sc.must(sc.do(v, export.Request{Op: export.Write, Off: addr * holdfast.BlockSize, Length: int64(len(data)), Data: data}))
}

func (sc *scene) flush(v *Volume) {
	sc.t.Helper()
	sc.must(sc.do(v, export.Request{Op: export.Flush}))
}

func (sc *scene) expect(v *Volume, addr int64, want []byte) {
	sc.t.Helper()
	got := make([]byte, len(want))
	sc.must(sc.do(v, export.Request{Op: export.Read, Off: addr * holdfast.BlockSize, Length: int64(len(got)), Data: got}))
	if !bytes.Equal(got, want) {
		sc.t.Errorf("at %v: block %d reads %x, want %x", sc.w.Now(), addr, got[0], want[0])
	}
}

// inSync waits until the record has n in-sync replicas.
func (sc *scene) inSync(n int) {
	sc.t.Helper()
	c := sc.w.Clock()
	for range 600 {
		for _, h := range sc.hosts {
			if h.clk.Dead() {
				continue
			}
			if v, ok := h.cl.State().Volumes[sc.vol.ID]; ok && len(v.Val.InSync) == n {
				return
			}
		}
		clock.Sleep(c, 100*time.Millisecond)
	}
	sc.t.Errorf("at %v: the volume never had %d in-sync replicas", sc.w.Now(), n)
	panic("scene ends")
}
