package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

// DefaultDiskSize is the size of each host's disk file, which is sparse.
const DefaultDiskSize = 8 << 30

const (
	startTimeout = 30 * time.Second // for a host to answer
	readyTimeout = 60 * time.Second // for the cluster to be whole
	slowStart    = 10 * time.Second // for processes to exist, on a machine that is busy
	pollEvery    = 50 * time.Millisecond
)

// Options are what a new lab should be.
type Options struct {
	Dir            string
	Racks, PerRack int
	Witness        bool      // one host more, which only votes
	Etcd           config.KV // an etcd that somebody else runs; none: the lab's hosts have their own
	DiskSize       int64
	Binary         string    // of holdfast
	Progress       io.Writer // what is being done, a line each
	Netns          bool      // with a network of its own: needs root
	Volatile       bool      // hosts forget what they have not synced when their power goes: needs root
	OwnPrograms    bool      // each host has a file of the program, which can be upgraded
	Bays           bool      // each disk, of 1 GiB at most, is on a file system of its own: needs root
	Getenv         func(string) string
}

// Up makes a lab and returns when its cluster is whole; a lab that was made
// before is started again where it stopped.
func Up(ctx context.Context, o Options) (*Lab, error) {
	begin := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(o.Progress, "%5.1f s  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
	l, err := Open(o.Dir)
	if holdfast.IsKind(err, holdfast.NotFound) {
		l, err = create(o)
	}
	if err != nil {
		return nil, err
	}
	if o.Netns && l.Network == nil {
		return nil, holdfast.Errorf(holdfast.Exists, "the lab in %s has no network of its own, and gets none afterwards; end it with 'holdfast lab down --wipe', or use another --dir", l.Dir)
	}
	if o.Volatile && len(volatiles(l.Hosts)) == 0 {
		return nil, holdfast.Errorf(holdfast.Exists, "the hosts of the lab in %s keep what they have not synced, and go on to; end it with 'holdfast lab down --wipe', or use another --dir", l.Dir)
	}
	if err := l.raise(); err != nil {
		return nil, err
	}
	if err := l.start(ctx, o.Binary, l.Hosts); err != nil {
		return nil, err
	}
	say("%d hosts answer", len(l.Hosts))
	if err := l.makeCurrent(o.Getenv); err != nil {
		return nil, err
	}
	if !l.Formed {
		if err := l.form(ctx, o.DiskSize, say); err != nil {
			return nil, err
		}
		l.Formed = true
		if err := l.save(); err != nil {
			return nil, err
		}
	}
	st, err := l.whole(ctx)
	if err != nil {
		return nil, err
	}
	if l.Network != nil {
		say("the hosts have a network of their own; 'ip netns exec %s COMMAND' runs something on host %s", l.Hosts[0].Netns, l.Hosts[0].Name)
	}
	say("iSCSI initiators are answered at %s, one portal a host; 'holdfast export create' gives them volumes", l.Hosts[0].Portal())
	say("the lab is up: %s", st.Sentence)
	return l, nil
}

func create(o Options) (*Lab, error) {
	if err := o.checkEtcd(); err != nil {
		return nil, err
	}
	l, err := plan(o.Dir, o.Racks, o.PerRack, o.Witness)
	if err != nil {
		return nil, err
	}
	if o.Volatile {
		if err := CanVolatile(); err != nil {
			return nil, err
		}
		for i := range l.Hosts {
			l.Hosts[i].Volatile = true
		}
	}
	for i := range l.Hosts {
		l.Hosts[i].OwnProgram = o.OwnPrograms
	}
	if o.Bays {
		if o.DiskSize > bayDisk {
			return nil, holdfast.Errorf(holdfast.Invalid, "a bay takes disks of %d bytes at most, not of %d", bayDisk, o.DiskSize)
		}
		if err := CanBays(); err != nil {
			return nil, err
		}
		for i := range l.Hosts {
			l.Hosts[i].Bay = true
		}
	}
	if o.Netns {
		err = l.giveNetwork(o.Binary)
	} else {
		err = l.assign()
	}
	if err != nil {
		return nil, err
	}
	for _, h := range l.Hosts {
		if err := h.writeConfig(o.Etcd); err != nil {
			return nil, err
		}
		if h.OwnProgram {
			if err := h.install(o.Binary); err != nil {
				return nil, err
			}
		}
	}
	return l, l.save()
}

// checkEtcd refuses an external etcd that this lab could not use.
func (o Options) checkEtcd() error {
	switch {
	case !o.Etcd.External():
		return nil
	case o.Witness:
		return holdfast.Errorf(holdfast.Invalid, "with an external etcd there is nothing for a witness to vote in; leave out --witness or --etcd")
	case o.Netns:
		return holdfast.Errorf(holdfast.Invalid, "the hosts of a lab with a network of its own reach no etcd outside of it; leave out --netns or --etcd")
	}
	c := config.Config{KV: o.Etcd}
	return c.CheckKV()
}

// start launches the hosts that do not run and waits until all answer.
func (l *Lab) start(ctx context.Context, binary string, hosts []Host) error {
	if err := l.launch(binary, hosts); err != nil {
		return err
	}
	return each(hosts, func(h Host) error { return h.answering(ctx) })
}

// launch launches the hosts that do not run, also those of which only machines
// are left.
func (l *Lab) launch(binary string, hosts []Host) error {
	for _, h := range hosts {
		switch word, _ := h.condition(); word {
		case isRunning:
			continue
		case isFrozen:
			return holdfast.Errorf(holdfast.Conflict, "host %s is frozen, not dead; let it go on with 'holdfast lab thaw %s'", h.Name, h.Rack)
		}
		if err := h.launch(binary); err != nil {
			return err
		}
	}
	return nil
}

// Start starts the hosts of a rack again after Kill or Stop. Machines that go on
// are left alone.
func (l *Lab) Start(ctx context.Context, binary, rack string) error {
	hosts, err := l.Rack(rack)
	if err != nil {
		return err
	}
	return l.start(ctx, binary, hosts)
}

// StartHosts starts hosts again that do not run, and returns when they answer.
func (l *Lab) StartHosts(ctx context.Context, binary string, hosts []Host) error {
	return l.start(ctx, binary, hosts)
}

// answering waits until a host's API answers. If its processes die meanwhile,
// what they printed last is the reason.
func (h Host) answering(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := client.Socket(h.Socket())
	defer c.Close()
	begin := time.Now()
	for {
		_, err := c.Self(ctx)
		if err == nil {
			return nil
		}
		if word, _ := h.condition(); (word == isDead || word == isAgentOut) && time.Since(begin) > slowStart {
			return holdfast.Errorf(holdfast.Unavailable, "host %s ended while starting:\n%s\nall of it is in %s", h.Name, h.lastWords(), h.Log())
		}
		if pause(ctx) != nil {
			return holdfast.Errorf(holdfast.Unavailable, "host %s does not answer: %w; its log is %s", h.Name, err, h.Log())
		}
	}
}

// lastWords returns the end of a host's log.
func (h Host) lastWords() string {
	f, err := os.Open(h.Log())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, 2000))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// form makes the cluster, with the calls that a person makes on real hosts.
func (l *Lab) form(ctx context.Context, diskSize int64, say func(string, ...any)) error {
	first := client.Socket(l.Hosts[0].Socket())
	defer first.Close()
	self, err := first.Self(ctx)
	if err != nil {
		return err
	}
	if !self.InCluster {
		adm, err := first.InitCluster(ctx, v1.ClusterInit{Name: "lab"})
		if err != nil {
			return err
		}
		if err := client.SaveAdmin(l.Credential(), adm); err != nil {
			return err
		}
	}
	say("a cluster of one host")
	// The control plane takes its voters one at a time; the rest may come together.
	voters, rest := l.firstOfRacks()
	for _, h := range voters {
		if err := h.join(ctx, first); err != nil {
			return err
		}
		say("host %s joined", h.Name)
	}
	if err := each(rest, func(h Host) error { return h.join(ctx, first) }); err != nil {
		return err
	}
	if err := each(l.Hosts, func(h Host) error { return h.addDisk(ctx, diskSize) }); err != nil {
		return err
	}
	say("every host has a disk of %d GiB", diskSize>>30)
	return nil
}

// firstOfRacks parts the hosts that are still to join.
func (l *Lab) firstOfRacks() (firsts, rest []Host) {
	seen := map[string]bool{l.Hosts[0].Rack: true}
	for _, h := range l.Hosts[1:] {
		if seen[h.Rack] {
			rest = append(rest, h)
			continue
		}
		seen[h.Rack] = true
		firsts = append(firsts, h)
	}
	return firsts, rest
}

func (h Host) join(ctx context.Context, first *client.Client) error {
	c := client.Socket(h.Socket())
	defer c.Close()
	self, err := c.Self(ctx)
	if err != nil || self.InCluster {
		return err
	}
	code, err := first.CreateJoinCode(ctx, v1.JoinCodeSpec{Rack: h.Rack})
	if err != nil {
		return err
	}
	if _, err = c.JoinSelf(ctx, v1.HostJoin(code)); err != nil {
		return fmt.Errorf("host %s could not join: %w", h.Name, err)
	}
	return nil
}

func (h Host) addDisk(ctx context.Context, size int64) error {
	if h.Witness {
		return nil
	}
	c := client.Socket(h.Socket())
	defer c.Close()
	disks, err := c.Disks(ctx)
	if err != nil {
		return err
	}
	for _, d := range disks {
		if d.Host == h.Name && d.Path == h.Disk() {
			return nil
		}
	}
	if _, err := c.AddDisk(ctx, v1.DiskSpec{Path: h.Disk(), Size: size}); err != nil {
		return fmt.Errorf("disk of host %s: %w", h.Name, err)
	}
	return nil
}

// troubles is what a host says is wrong, or why it does not answer.
func troubles(st v1.Status, err error) string {
	if err != nil && st.Sentence == "" {
		return err.Error()
	}
	text := st.Sentence
	n := 0
	for _, c := range st.Conditions {
		if c.Severity == "error" && n < maxTroubles {
			text += "\n  " + c.Text
			n++
		}
	}
	return text + "\n'holdfast lab down --wipe' ends it with all its data; a new one is brought up then"
}

// maxTroubles bounds how much of it is said.
const maxTroubles = 5

// whole waits until every host sees every other one and nothing is wrong.
func (l *Lab) whole(ctx context.Context) (v1.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var last v1.Status
	for _, h := range l.Hosts {
		c := client.Socket(h.Socket())
		defer c.Close()
		for {
			st, err := c.Status(ctx)
			var disks []v1.Disk
			if err == nil {
				last = st
				disks, err = c.Disks(ctx)
			}
			if err == nil && l.isWhole(st) && l.disksInUse(disks) {
				break
			}
			if pause(ctx) != nil {
				return last, holdfast.Errorf(holdfast.Unavailable, "the lab is not whole after %v; host %s says: %s", readyTimeout, h.Name, troubles(last, err))
			}
		}
	}
	return last, nil
}

// isWhole wants every host there, nothing wrong, and with three racks or more,
// that of a witness counted, that any of them can be lost: before, the control
// plane has not taken its voters in.
func (l *Lab) isWhole(st v1.Status) bool {
	racks := st.Counts.Racks
	return st.Level == "ok" && st.Counts.HostsAlive == len(l.Hosts) && st.CanLose.Unknown == "" &&
		(racks < 3 || len(st.CanLose.Racks) == racks)
}

// disksInUse wants every host to have said that its disk is in use: before,
// nothing can be placed there.
func (l *Lab) disksInUse(disks []v1.Disk) bool {
	use := map[string]bool{}
	for _, d := range disks {
		if d.State == "in use" {
			use[d.Host] = true
		}
	}
	for _, h := range l.Hosts {
		if !h.Witness && !use[h.Name] {
			return false
		}
	}
	return true
}

// pause waits a little between two questions.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollEvery):
		return nil
	}
}

// each runs f for all hosts at once and waits for all.
func each(hosts []Host, f func(Host) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { errs[i] = f(h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Down ends everything in the lab; wipe removes its directory, too.
func (l *Lab) Down(wipe bool, getenv func(string) string) error {
	if err := Kill(l.Hosts); err != nil {
		return err
	}
	if err := each(bays(l.Hosts), func(h Host) error { return h.bay().unmount() }); err != nil {
		return err
	}
	if err := l.raze(); err != nil {
		return err
	}
	if c, ok := client.ReadCurrent(getenv); ok && c.Dir == l.Dir {
		_ = os.Remove(client.CurrentFile(getenv)) // only a convenience
	}
	if !wipe {
		return nil
	}
	return l.wipe()
}

// wipe removes what the lab made, and its directory if nothing else is in it.
func (l *Lab) wipe() error {
	paths := []string{l.Credential(), l.lineDir(), l.networkLock()}
	for _, h := range l.Hosts {
		paths = append(paths, h.Dir)
	}
	for _, p := range append(paths, filepath.Join(l.Dir, "lab.json")) {
		if err := os.RemoveAll(p); err != nil {
			return holdfast.Errorf(holdfast.IO, "wipe the lab: %w", err)
		}
	}
	_ = os.Remove(l.Dir) // fails if there is more in it, which is not ours
	return nil
}
