package sim

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// bedScripts are runs that are aimed at pairs of a state and an event which
// random seeds hardly ever reach, with the pairs that each has to visit.
var bedScripts = []struct {
	name   string
	pairs  []string
	script func(*Bed)
}{
	{"an encrypted volume is opened on a host whose key is not in its memory yet", []string{"take-over: claim, its key is not here"}, bedLocked},
	{"a volume that wants two copies at least is opened with one", []string{"take-over: settle, too few are left"}, bedTooFew},
	{"records of the control plane that are older than an ejection are put back", []string{"take-over: level, it is cut back and filled"}, bedOlderRecords},
	{"a host restarts while it imports an image", []string{"ha: step: brake off, abandoned"}, bedAbandoned},
	{"frames get lost while a copy catches up", ofLossy, bedLossy},
}

var ofLossy = []string{
	"writer and member: joining, lacks records, records are sent",
	"writer and member: joining, lacks records, it lacks what nothing carries any more",
}

// directedStories are stories of the same kind, in testdata/directed.
var directedStories = []struct {
	file  string
	pairs []string
}{
	{"brake_ends.txt", []string{"ha: brake: on, it has held for long enough"}},
	{"forgotten_incidents.txt", []string{"ha: step: brake off, prune", "ha: step: brake on, prune"}},
	{"stuck_machines.txt", []string{"ha: VM: assigned, its host does nothing about it"}},
}

var writeDirected = flag.Bool("write-directed", false, "write docs/campaigns/directed.json, which says what directed runs reach")

// TestDirected plays the runs that are aimed at what random ones hardly ever
// reach: each reaches it, and docs/campaigns/directed.json says so.
func TestDirected(t *testing.T) {
	var all []DirectedRun
	reaches := func(t *testing.T, name string, pairs []string, r Result) {
		for _, f := range r.Failures {
			t.Error(f)
		}
		for _, p := range pairs {
			if r.Visits[p] == 0 {
				t.Errorf("not visited: %s", p)
			}
		}
		all = append(all, DirectedRun{name, pairs})
	}
	for _, x := range bedScripts {
		t.Run(x.name, func(t *testing.T) {
			reaches(t, x.name, x.pairs, onBed(BedOptions{Seed: 1, Hosts: 3, DiskBytes: 64 << 20, Out: t.Output()}, x.script))
		})
	}
	for _, x := range directedStories {
		t.Run(x.file, func(t *testing.T) {
			s, err := story.Read(filepath.Join("testdata/directed", x.file))
			if err != nil {
				t.Fatal(err)
			}
			reaches(t, s.Title, x.pairs, Run(Options{Story: s, Out: t.Output()}))
		})
	}
	file := filepath.Join("../../docs/campaigns", DirectedFile)
	if *writeDirected && !t.Failed() {
		b, err := json.MarshalIndent(all, "", "  ")
		if err == nil {
			err = os.WriteFile(file, append(b, '\n'), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if was, err := directedRuns(file); err != nil || !reflect.DeepEqual(was, all) {
		t.Errorf("%s does not say what these runs reach (%v); write it with: go test ./internal/sim -run TestDirected -write-directed", file, err)
	}
}

// bedVolume makes a volume with two copies and returns it and the two hosts.
func bedVolume(b *Bed, spec provision.VolumeSpec) (v cluster.Volume, at [2]int) {
	spec.Name, spec.Blocks, spec.Copies = "v", 512, 2
	b.Must(b.On(0, time.Minute, func(n *node.Node) (err error) {
		for i := 0; i < 100; i++ { // until all hosts are known
			if v, err = n.Make.CreateVolume(spec); err == nil {
				return nil
			}
			clock.Sleep(b.Clock(), 100*time.Millisecond)
		}
		return err
	}), "a volume")
	for i, r := range v.InSync {
		at[i] = b.Number(r.Host)
	}
	return v, at
}

// bedOpen opens a session at a host.
func bedOpen(b *Bed, host int, id holdfast.VolumeID) (d export.Disk, err error) {
	err = b.On(host, time.Minute, func(n *node.Node) error {
		v, err := n.Volumes.Open(id)
		if err == nil {
			d, err = v.Session(false)
		}
		return err
	})
	return d, err
}

// bedAwait waits until something is so.
func bedAwait(b *Bed, what string, so func() bool) {
	for end := b.s.w.Now() + 5*time.Minute; !so(); clock.Sleep(b.Clock(), 50*time.Millisecond) {
		if b.s.w.Now() > end {
			b.Must(holdfast.Errorf(holdfast.Other, "it is not so: %s", what), "the script")
		}
	}
}

// submit hands a request over at a host and does not wait for it.
func bedSubmit(b *Bed, host int, d export.Disk, r export.Request) *clock.Future[error] {
	done := clock.NewFuture[error](b.Clock())
	r.Done = func(_ *export.Request, err error) { done.Resolve(err) }
	b.s.hosts[host].agent.Go(func() { d.Submit(&r) })
	return done
}

func bedWrite(block int, fua bool) export.Request {
	data := make([]byte, holdfast.BlockSize)
	data[0], data[1] = byte(block), byte(block>>8)
	return export.Request{Op: export.Write, Off: int64(block) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data, FUA: fua}
}

func bedLocked(b *Bed) {
	b.s.keyless = true
	v, at := bedVolume(b, provision.VolumeSpec{Encrypt: true})
	b.Kill(at[0])
	b.s.hosts[at[0]].start()
	bedAwait(b, "it serves", func() bool { return b.Serving(at[0]) })
	if _, err := bedOpen(b, at[0], v.ID); !holdfast.IsKind(err, holdfast.Unavailable) {
		b.Fail("a volume was opened without its key, or failed otherwise: %v", err)
	}
	bedAwait(b, "it can be opened once the key is there", func() bool {
		d, err := bedOpen(b, at[0], v.ID)
		if err == nil {
			d.Close()
		}
		return err == nil
	})
}

func bedTooFew(b *Bed) {
	v, at := bedVolume(b, provision.VolumeSpec{Min: 2})
	b.PowerCut(at[1])
	clock.Sleep(b.Clock(), 5*time.Second)
	if _, err := bedOpen(b, at[0], v.ID); !holdfast.IsKind(err, holdfast.Unavailable) {
		b.Fail("it was opened with fewer copies than it wants, or failed otherwise: %v", err)
	}
	b.PowerOn(at[1])
	bedAwait(b, "it can be opened with both", func() bool { _, err := bedOpen(b, at[0], v.ID); return err == nil })
}

func bedOlderRecords(b *Bed) {
	v, at := bedVolume(b, provision.VolumeSpec{})
	d, err := bedOpen(b, at[0], v.ID)
	b.Must(err, "a session")
	err, _ = bedSubmit(b, at[0], d, bedWrite(1, true)).Wait(time.Minute)
	b.Must(err, "a write")
	older := b.Records().Volumes[v.ID].Val

	lone := b.s.hosts[at[0]] // it writes what nobody else gets, and loses its power
	b.s.kv.Cut(lone.name, true, true)
	b.s.net.Cut(lone.rec.ID, b.s.hosts[at[1]].rec.ID)
	b.s.net.Cut(b.s.hosts[at[1]].rec.ID, lone.rec.ID)
	bedSubmit(b, at[0], d, bedWrite(2, true))
	clock.Sleep(b.Clock(), 500*time.Millisecond)
	b.PowerCut(at[0])
	bedAwait(b, "the other has opened it", func() bool { d, err = bedOpen(b, at[1], v.ID); return err == nil })
	b.Kill(at[1])
	b.s.kv.Cut(lone.name, false, false)
	b.s.net.Heal()
	b.PowerOn(at[0])
	bedAwait(b, "the one is there", func() bool { return b.Serving(at[0]) })
	b.s.hosts[at[1]].start()
	bedAwait(b, "and the other", func() bool { return b.Serving(at[1]) })
	third := 3 - at[0] - at[1]
	bedAwait(b, "the older record is put back", func() bool {
		return b.On(third, time.Minute, func(n *node.Node) error {
			st, err := n.Cluster.Refresh()
			if err == nil {
				_, err = n.Volumes.Records.CommitVolume(older, st.Volumes[v.ID].Mod)
			}
			return err
		}) == nil
	})
	bedAwait(b, "it is opened anew", func() bool { d, err = bedOpen(b, third, v.ID); return err == nil })
	want, got := bedWrite(1, false), make([]byte, holdfast.BlockSize)
	bedAwait(b, "it can be read", func() bool {
		if err, _ := bedSubmit(b, third, d, export.Request{Op: export.Read, Off: want.Off, Length: want.Length, Data: got}).Wait(time.Minute); err == nil {
			return true
		}
		d, _ = bedOpen(b, third, v.ID)
		return false
	})
	if !slices.Equal(got, want.Data) {
		b.Fail("what was flushed is not there")
	}
}

func bedAbandoned(b *Bed) {
	b.Must(b.On(1, time.Minute, func(n *node.Node) (err error) {
		for i := 0; i < 100; i++ {
			if _, err = n.Make.CreateVolume(provision.VolumeSpec{Name: "image", Blocks: 64, Copies: 2, Image: true}); err == nil {
				return nil
			}
			clock.Sleep(b.Clock(), 100*time.Millisecond)
		}
		return err
	}), "an image")
	b.Kill(1)
	b.s.hosts[1].start()
	bedAwait(b, "the image is deleted", func() bool { _, there := b.Records().VolumeByName("image"); return !there })
}

// bedLossy has the network lose frames while a copy catches up with what it
// missed, and writes come in bursts: later records may arrive on a connection of
// their own while those before them are lost.
func bedLossy(b *Bed) {
	v, at := bedVolume(b, provision.VolumeSpec{})
	d, err := bedOpen(b, at[0], v.ID)
	b.Must(err, "a session")
	writer, copy := b.s.hosts[at[0]], b.s.hosts[at[1]]
	rng := rand.New(rand.NewPCG(1, 2))
	upTo := func(most time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(most))) }
	block := 0
	burst := func(n int) {
		for range n {
			block = (block + 1) % 512
			bedSubmit(b, at[0], d, bedWrite(block, false))
		}
	}
	for range 300 {
		if seen := b.s.visits(); !slices.ContainsFunc(ofLossy, func(p string) bool { return seen[p] == 0 }) {
			break
		}
		b.PowerCut(at[1])
		clock.Sleep(b.Clock(), 4*time.Second) // it is ejected
		burst(400)
		b.PowerOn(at[1])
		b.s.net.Slow(writer.rec.ID, copy.rec.ID, 100*time.Millisecond)
		clock.Sleep(b.Clock(), time.Second+upTo(2*time.Second))
		burst(9 + rng.IntN(20))
		clock.Sleep(b.Clock(), upTo(200*time.Millisecond))
		b.s.net.SetParams(simnet.Storm())
		for range 20 {
			burst(9 + rng.IntN(20))
			clock.Sleep(b.Clock(), upTo(40*time.Millisecond))
		}
		b.s.net.SetParams(simnet.LAN())
		b.s.net.Slow(writer.rec.ID, copy.rec.ID, 0)
		bedAwait(b, "everything is whole", func() bool { return b.Unwhole() == "" })
	}
}
