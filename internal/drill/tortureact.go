package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/link"
	"github.com/holdfast-cloud/holdfast/lab/observer"
)

const (
	rotAtOnce   = 40 // blocks that are damaged by one fault
	rightWithin = 5 * time.Minute
)

// wreck brings an episode's faults about and takes them back again, and returns
// when the last one is over. What goes wrong in that is told, and put right after.
func (t *torture) wreck(ctx context.Context, faults []torment) {
	var all sync.WaitGroup
	for _, f := range faults {
		all.Go(func() {
			if !rest(ctx, f.after) {
				return
			}
			t.count(f.kind)
			t.note(f.kind, "%s", f)
			if err := t.inflict(ctx, f); err != nil && ctx.Err() == nil {
				t.note("trouble", "%s: %v", f.kind, err)
			}
		})
	}
	all.Wait()
}

// rest waits, and is false if it all ends meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// restart begins the hosts of a rack again in order, and notes how long that takes:
// one that hangs while it stops is ended by itself after a while.
func (t *torture) restart(ctx context.Context, rack []lab.Host) error {
	began := time.Now()
	if err := t.o.Lab.Restart(ctx, t.o.Binary, rack); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.restarts = append(t.report.restarts, time.Since(began).Seconds())
	return nil
}

// inflict is one fault from its beginning to its end.
func (t *torture) inflict(ctx context.Context, f torment) error {
	rng := rand.New(rand.NewPCG(f.seed, 1))
	rack, err := t.o.Lab.Rack(f.racks[0])
	if err != nil {
		return err
	}
	one := []lab.Host{hostOf(t.o.Lab, f.host)}
	switch f.kind {
	case killRack:
		return t.down(ctx, f.lasts, rack, lab.Kill)
	case killHost:
		return t.down(ctx, f.lasts, one, lab.Kill)
	case killServe:
		return t.down(ctx, f.lasts, one, lab.KillServe)
	case freezeRack:
		return t.held(ctx, f.lasts, rack, lab.Freeze)
	case freezeServe:
		return t.held(ctx, f.lasts, one, lab.FreezeServe)
	case restartRack:
		return t.restart(ctx, rack)
	case killMachine:
		return t.killMachine(rack)
	case powerAll:
		return t.power(ctx, f.lasts, rng)
	case shapeRack:
		return t.shaped(ctx, f)
	case flapRack:
		return t.flap(ctx, f, rng)
	case fillDisks:
		return t.fill(ctx, f.lasts)
	case rotBlocks:
		return t.rot(ctx, one[0], rng)
	case operate:
		return t.operate(ctx, f.lasts, rng)
	}
	cuts, err := t.cuts(ctx, f)
	if err != nil {
		return err
	}
	return t.apart(ctx, f.lasts, cuts)
}

// cuts are what a fault cuts, in the words of 'lab cut'.
func (t *torture) cuts(ctx context.Context, f torment) ([]string, error) {
	switch f.kind {
	case cutRack:
		return []string{f.racks[0]}, nil
	case cutHost:
		return []string{f.host}, nil
	case cutPair:
		return []string{f.racks[0] + "-" + f.racks[1]}, nil
	case cutOneWay:
		return []string{f.racks[0] + ">" + f.racks[1]}, nil
	case cutData:
		return []string{f.racks[0] + "-" + f.racks[1] + ":" + lab.Data}, nil
	case cutMajority:
		var all []string
		for _, r := range t.racks() {
			all = append(all, r+":"+lab.Control)
		}
		return all, nil
	case cutLeader, cutLeaderOut:
		leader, ok := t.leads(ctx)
		if !ok {
			return nil, holdfast.Errorf(holdfast.Unavailable, "nobody leads the control plane just now")
		}
		t.note("leader", "host %s led the control plane", leader.Name)
		if f.kind == cutLeader {
			return []string{leader.Name + ":" + lab.Control}, nil
		}
		var all []string
		for _, r := range t.racks() {
			if r != leader.Rack {
				all = append(all, r+">"+leader.Name+":"+lab.Control)
			}
		}
		return all, nil
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "a fault %q is not known", f.kind)
}

func (t *torture) racks() (out []string) {
	for _, h := range t.o.Lab.Hosts {
		if !slices.Contains(out, h.Rack) {
			out = append(out, h.Rack)
		}
	}
	return out
}

// leads finds the host whose member leads the control plane, by asking each once.
func (t *torture) leads(ctx context.Context) (lab.Host, bool) {
	for i, h := range t.cloud.hosts {
		try, cancel := context.WithTimeout(ctx, askTimeout)
		self, err := t.cloud.clients[i].Self(try)
		cancel()
		if err == nil && self.LeadsKV {
			return h, true
		}
	}
	return lab.Host{}, false
}

// down ends what runs on some hosts, and starts them again.
func (t *torture) down(ctx context.Context, lasts time.Duration, hosts []lab.Host, end func([]lab.Host) error) error {
	if err := end(hosts); err != nil {
		return err
	}
	rest(ctx, lasts)
	return t.o.Lab.StartHosts(ctx, t.o.Binary, hosts)
}

// held stops some hosts where they stand, and lets them go on.
func (t *torture) held(ctx context.Context, lasts time.Duration, hosts []lab.Host, hold func([]lab.Host) error) error {
	err := hold(hosts)
	rest(ctx, lasts)
	return errors.Join(err, lab.Thaw(hosts))
}

// killMachine ends one of the emulators in a rack.
func (t *torture) killMachine(rack []lab.Host) error {
	all, err := lab.Machines(rack)
	if err != nil || len(all) == 0 {
		return err
	}
	t.note("machine", "of VM %s on host %s", all[0].VM, all[0].Host)
	return all[0].Kill()
}

// power takes the power of all hosts, which come back in an order and at moments of
// chance.
func (t *torture) power(ctx context.Context, lasts time.Duration, rng *rand.Rand) error {
	hosts := slices.Clone(t.o.Lab.Hosts)
	rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	if err := lab.Kill(hosts); err != nil {
		return err
	}
	rest(ctx, lasts)
	errs := make([]error, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		rest(ctx, time.Duration(rng.Int64N(int64(maxReturn))))
		all.Go(func() { errs[i] = t.o.Lab.StartHosts(ctx, t.o.Binary, []lab.Host{h}) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// wire changes the lab's network; one fault at a time may.
func (t *torture) wire(f func() error) error {
	t.wiring.Lock()
	defer t.wiring.Unlock()
	return f()
}

// apart cuts, and connects again.
func (t *torture) apart(ctx context.Context, lasts time.Duration, cuts []string) error {
	var err error
	for _, c := range cuts {
		err = errors.Join(err, t.wire(func() error { return t.o.Lab.Cut(c) }))
	}
	rest(ctx, lasts)
	for _, c := range cuts {
		err = errors.Join(err, t.wire(func() error { return t.o.Lab.Heal(c) }))
	}
	return err
}

func (t *torture) shaped(ctx context.Context, f torment) error {
	err := t.wire(func() error { return t.o.Lab.Shape(f.racks[0], f.shape) })
	rest(ctx, f.lasts)
	return errors.Join(err, t.wire(func() error { return t.o.Lab.Shape(f.racks[0], link.Shape{}) }))
}

// flap cuts a rack off again and again, for 0.2 to 2.7 s at a time.
func (t *torture) flap(ctx context.Context, f torment, rng *rand.Rand) error {
	flaps := func() time.Duration {
		return 200*time.Millisecond + time.Duration(rng.Int64N(int64(2500*time.Millisecond)))
	}
	var err error
	for end := time.Now().Add(f.lasts); err == nil && time.Now().Before(end) && ctx.Err() == nil; {
		err = t.apart(ctx, flaps(), f.racks[:1])
		rest(ctx, flaps())
	}
	return err
}

const (
	fillerName   = "torture-filler"
	fillerRounds = 16 // of which each is kept as a snapshot, at most
)

// fill overwrites a volume and keeps every state of it as a snapshot until the disks
// below it are full, and deletes it.
func (t *torture) fill(ctx context.Context, lasts time.Duration) (err error) {
	disks, err := ask(ctx, t.cloud, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Disk, error) { return k.Disks(ctx) })
	if err != nil || len(disks) == 0 {
		return err
	}
	size := disks[0].Size / 8 &^ (1<<20 - 1)
	v, err := t.cloud.haveVolume(ctx, v1.VolumeSpec{Name: fillerName, Size: size})
	if err != nil {
		return err
	}
	kept := []string{}
	defer func() {
		for _, s := range kept {
			err = errors.Join(err, t.letGo(ctx, fillerName, s))
		}
		err = errors.Join(err, t.unmake(ctx, fillerName))
	}()
	wrote, why := int64(0), error(nil)
	for i := 0; i < fillerRounds && why == nil && ctx.Err() == nil; i++ {
		n := int64(0)
		if n, why, err = t.pour(ctx, v, size, byte(i)); err != nil {
			return err
		}
		wrote += n
		if why != nil {
			break
		}
		name := fmt.Sprintf("round-%d", i)
		if _, why = ask(ctx, t.cloud, 10*time.Second, func(ctx context.Context, k *client.Client) (v1.Snapshot, error) {
			return k.Snapshot(ctx, fillerName, v1.SnapshotSpec{Name: name})
		}); why == nil {
			kept = append(kept, name)
		}
	}
	t.note("filled", "%d MiB were written, then: %v", wrote>>20, why)
	rest(ctx, lasts)
	return nil
}

// pour writes noise to a volume until no more is taken, of which why tells the
// reason, or all of it is written.
func (t *torture) pour(ctx context.Context, v v1.Volume, size int64, seed byte) (wrote int64, why, err error) {
	var c *nbd.Client
	err = t.cloud.until(ctx, time.Minute, "the filler to be exported", func(context.Context) (ok bool, said string, err error) {
		c, err = nbd.Dial("unix", t.o.Lab.Hosts[0].Export(v.ID), "", nil)
		return err == nil, "", err
	})
	if err != nil {
		return 0, nil, err
	}
	defer c.Sever()
	piece := make([]byte, 1<<20)
	noise := rand.NewChaCha8([32]byte{seed})
	for at := int64(0); at < size && ctx.Err() == nil; at += int64(len(piece)) {
		_, _ = noise.Read(piece) // it never fails
		if _, why := c.WriteAt(piece, at); why != nil {
			return at, why, nil
		}
	}
	return size, nil, nil
}

// unmake deletes a volume, if it is there, and waits until it is gone.
func (t *torture) unmake(ctx context.Context, name string) error {
	return t.cloud.until(ctx, rightWithin, "volume "+name+" to be gone", func(ctx context.Context) (bool, string, error) {
		_, err := ask(ctx, t.cloud, 10*time.Second, func(ctx context.Context, k *client.Client) (struct{}, error) {
			return struct{}{}, k.DeleteVolume(ctx, name)
		})
		if holdfast.IsKind(err, holdfast.NotFound) {
			return true, "", nil
		}
		return false, "it is being deleted", err
	})
}

// rot damages blocks on a host's disk and has all of it scrubbed, until nothing is
// bad any more. Every other copy is whole meanwhile: nothing else goes on.
func (t *torture) rot(ctx context.Context, h lab.Host, rng *rand.Rand) error {
	n, err := h.Rot(rotAtOnce, rng, probe.Magic, observer.Magic)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.report.Rotten += n
	t.mu.Unlock()
	t.note("flipped", "a bit in each of %d blocks", n)
	return t.scrub(ctx, h)
}

// scrub has a host's disk scrubbed and waits until it is done and nothing is bad.
func (t *torture) scrub(ctx context.Context, h lab.Host) error {
	var disk v1.Disk
	before := time.Now()
	return t.cloud.until(ctx, rightWithin, "the disk of host "+h.Name+" to be scrubbed and good", func(ctx context.Context) (bool, string, error) {
		disks, err := ask(ctx, t.cloud, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Disk, error) { return k.Disks(ctx) })
		if err != nil {
			return false, "", err
		}
		for _, d := range disks {
			if d.Host == h.Name {
				disk = d
			}
		}
		if disk.Scrub == nil && disk.Scrubbed != nil && disk.Scrubbed.After(before.Add(-time.Second)) {
			return true, "", nil
		}
		if disk.Scrub == nil {
			_, err = ask(ctx, t.cloud, askTimeout, func(ctx context.Context, k *client.Client) (struct{}, error) {
				return struct{}{}, k.ScrubDisk(ctx, disk.ID)
			})
		}
		return false, "it is being scrubbed", err
	})
}

// operate takes snapshots of volumes in use and lets them go again.
func (t *torture) operate(ctx context.Context, lasts time.Duration, rng *rand.Rand) error {
	const name = "torture"
	names := t.volumeNames()
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:min(3, len(names))]
	for _, v := range names {
		_, err := ask(ctx, t.cloud, 10*time.Second, func(ctx context.Context, k *client.Client) (v1.Snapshot, error) {
			return k.Snapshot(ctx, v, v1.SnapshotSpec{Name: name})
		})
		t.tried("a snapshot", err)
	}
	rest(ctx, lasts)
	for _, v := range names {
		if err := t.letGo(ctx, v, name); err != nil {
			return err
		}
	}
	return nil
}

// letGo deletes a snapshot, if it is there, and waits until it is gone.
func (t *torture) letGo(ctx context.Context, volume, snapshot string) error {
	return t.cloud.until(ctx, rightWithin, "snapshot "+snapshot+" of volume "+volume+" to be gone", func(ctx context.Context) (bool, string, error) {
		_, err := ask(ctx, t.cloud, 10*time.Second, func(ctx context.Context, k *client.Client) (struct{}, error) {
			return struct{}{}, k.DeleteSnapshot(ctx, volume, snapshot)
		})
		if holdfast.IsKind(err, holdfast.NotFound) {
			return true, "", nil
		}
		return false, "it is there", err
	})
}

// tried notes what became of what an operator asked for: it may be refused while
// the cluster is broken.
func (t *torture) tried(what string, err error) {
	if err != nil {
		t.note("refused", "%s: %v", what, err)
	}
}

// right takes everything back: connections, lines, frozen and dead hosts.
func (t *torture) right(ctx context.Context) error {
	return t.cloud.until(ctx, rightWithin, "every fault to be taken back", func(ctx context.Context) (bool, string, error) {
		err := t.wire(func() error {
			if t.o.Lab.Network == nil {
				return nil
			}
			err := t.o.Lab.Heal("")
			for _, r := range t.racks() {
				err = errors.Join(err, t.o.Lab.Shape(r, link.Shape{}))
			}
			return err
		})
		err = errors.Join(err, lab.Thaw(t.o.Lab.Hosts))
		if err == nil {
			err = t.o.Lab.StartHosts(ctx, t.o.Binary, t.o.Lab.Hosts)
		}
		return err == nil, fmt.Sprint(err), err
	})
}
