package serve

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// targets keeps what this host offers over iSCSI as the exports' records say.
// Every host offers every target; the units of each run on one host, which a
// record under its lease names (cluster.Serving), and the others carry
// connections there. A target that nobody serves comes to be served when an
// initiator asks for it (docs/adr/0035).
type targets struct {
	h    *Host
	m    *member
	srv  *iscsi.Server
	wake clock.Event
	note refusals

	reading sync.Mutex // one reader of the records at a time
	read    time.Time  // when that was

	mu    sync.Mutex // of everything below; held while targets are offered and withdrawn
	offer map[holdfast.ExportID]*offered
	over  bool
	away  map[holdfast.HostID]time.Time // hosts that did not answer, until when they are not asked
}

// offered is one target as it is offered now.
type offered struct {
	rec    cluster.Versioned[cluster.Export]
	device *scsi.Device // nil: another host, or none, serves it
	mod    kv.Rev       // of this host's Serving
	groups atomic.Pointer[[]scsi.Group]
}

func newTargets(h *Host, m *member) *targets {
	t := &targets{h: h, m: m, wake: clock.System{}.NewEvent(), offer: map[holdfast.ExportID]*offered{}, away: map[holdfast.HostID]time.Time{}}
	t.srv = iscsi.New(iscsi.Config{Log: h.log, Settle: t.settle, Forward: t.forward, Elsewhere: t.elsewhere, Refused: t.note.add})
	return t
}

// targetsEvery is how often the targets are looked at without a change.
const targetsEvery = time.Second

// run follows the records until the member stops.
func (t *targets) run() {
	t.m.node.Cluster.Subscribe(t.wake)
	defer t.m.node.Cluster.Unsubscribe(t.wake)
	listening := false
	for {
		t.wake.Wait(targetsEvery)
		select {
		case <-t.m.done:
			return
		default:
		}
		if t.m.node.Cluster.State().Rev == 0 {
			continue
		}
		if !listening {
			listening = t.listen()
		}
		t.converge()
		t.note.tell(t.m.node)
	}
}

// close ends all sessions and gives up what this host serves, so that others
// may serve it at once.
func (t *targets) close() {
	t.wake.Set()
	t.mu.Lock()
	t.over = true
	for id, o := range t.offer {
		t.withdraw(id, o)
	}
	t.mu.Unlock()
	t.srv.Close()
}

// converge offers and withdraws until what is offered is what the picture says.
func (t *targets) converge() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return
	}
	st := t.m.node.Cluster.State()
	for id, o := range t.offer {
		rec, there := st.Exports[id]
		mine := t.serves(st, id)
		if !there || mine != (o.device != nil) || mine && st.Serving[id].Mod != o.mod || mine && t.mayGo(st, rec.Val) {
			t.withdraw(id, o)
		}
	}
	for _, rec := range st.SortedExports() {
		if err := t.offerOne(st, rec); err != nil {
			t.h.log.Error("a target is not offered", "export", rec.Val.Name, "error", err)
		}
	}
}

// serves reports whether the units of an export run here, by the picture.
func (t *targets) serves(st *cluster.State, id holdfast.ExportID) bool {
	s, ok := st.Serving[id]
	return ok && t.m.node.Lease().Served(s.Val)
}

// withdraw ends an offer; t.mu is held.
func (t *targets) withdraw(id holdfast.ExportID, o *offered) {
	t.srv.Withdraw(o.rec.Val.Target)
	delete(t.offer, id)
	if o.device == nil {
		return
	}
	if err := t.m.node.Cluster.EndServing(id, o.mod); err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
		t.h.log.Debug("a target is given up with the lease", "export", o.rec.Val.Name, "error", err)
	}
}

// offerOne makes one target what its record says; t.mu is held.
func (t *targets) offerOne(st *cluster.State, rec cluster.Versioned[cluster.Export]) error {
	id := rec.Val.ID
	o := t.offer[id]
	if o == nil {
		o = &offered{rec: rec}
		o.groups.Store(new([]scsi.Group))
		if s := st.Serving[id]; t.serves(st, id) {
			o.mod = s.Mod
			t.setGroups(st, o)
			var err error
			if o.device, err = t.newDevice(st, o); err != nil {
				return err
			}
		}
		if err := t.srv.Offer(iscsi.Target{Name: rec.Val.Target, Alias: rec.Val.Name, Device: o.device, Access: access(rec.Val)}); err != nil {
			if o.device != nil {
				o.device.Close()
			}
			return err
		}
		t.offer[id] = o
		return nil
	}
	if o.rec.Mod != rec.Mod {
		if err := t.srv.SetAccess(rec.Val.Target, access(rec.Val)); err != nil {
			return err
		}
		o.rec = rec
	}
	if o.device != nil && t.setGroups(st, o) {
		for _, u := range o.device.Units() {
			u.GroupsChanged()
		}
	}
	return nil
}

func access(e cluster.Export) (a iscsi.Access) {
	for _, i := range e.Initiators {
		a.Initiators = append(a.Initiators, iscsi.Initiator{Name: i.Name, User: i.User, Secret: string(i.Secret),
			MutualUser: i.MutualUser, MutualSecret: string(i.MutualSecret)})
	}
	return a
}

// newDevice makes the units of an export that this host serves.
func (t *targets) newDevice(st *cluster.State, o *offered) (*scsi.Device, error) {
	units := map[uint16]*scsi.Unit{}
	for _, u := range o.rec.Val.Units {
		v, ok := st.Volumes[u.Volume]
		if !ok {
			return nil, holdfast.Errorf(holdfast.NotFound, "volume %s of export %s does not exist", u.Volume.Short(), o.rec.Val.Name)
		}
		unit, err := scsi.New(t.m.node.Volumes.Target(v.Val).Following(), scsi.Options{
			ID: v.Val.ID, Name: v.Val.Name, BlockSize: u.BlockSize, ReadOnly: u.ReadOnly, Removable: u.Removable,
			Atomic:       record.MaxBlocks * holdfast.BlockSize, // a write of one record is there or not
			Groups:       func() []scsi.Group { return *o.groups.Load() },
			Reservations: &unitStore{c: t.m.node.Cluster, volume: v.Val.ID, serving: o.mod},
			Log:          t.h.log,
		})
		if err != nil {
			return nil, err
		}
		units[uint16(u.LUN)] = unit
	}
	return scsi.NewDevice(units)
}

// setGroups notes the target port groups, one a rack that has a portal, and
// reports whether they changed.
func (t *targets) setGroups(st *cluster.State, o *offered) bool {
	groups := portalGroups(st, nearest(st, o.rec.Val, t.h.dir.id.Host), o.rec.Val.Target)
	same := func(a, b scsi.Group) bool { return a.ID == b.ID && a.State == b.State }
	if slices.EqualFunc(groups, *o.groups.Load(), same) {
		return false
	}
	o.groups.Store(&groups)
	return true
}

// nearest is the host whose rack has the optimized path to an export that a host
// serves: that one, or if it is drained the one that writes the first volume and
// is to serve next.
func nearest(st *cluster.State, e cluster.Export, serving holdfast.HostID) holdfast.HostID {
	w := st.Volumes[e.Units[0].Volume].Val.Writer
	if st.Hosts[serving].Val.Drained && st.AliveHost(w) && st.Hosts[w].Val.PortalGroup != 0 {
		return w
	}
	return serving
}

// portalGroups are the target port groups of a target: optimized in the rack of
// the host that is nearest, unavailable where no host with a portal is alive.
func portalGroups(st *cluster.State, near holdfast.HostID, target string) []scsi.Group {
	states := map[uint16]byte{}
	for _, h := range st.SortedHosts() {
		tag := h.Val.PortalGroup
		if tag == 0 || h.Val.Portal == "" {
			continue
		}
		state, seen := states[tag]
		if !seen {
			state = scsi.AccessUnavailable
		}
		if st.AliveHost(h.Val.ID) && state == scsi.AccessUnavailable {
			state = scsi.AccessNonOptimized
		}
		states[tag] = state
	}
	if tag := st.Hosts[near].Val.PortalGroup; tag != 0 {
		if _, seen := states[tag]; seen {
			states[tag] = scsi.AccessOptimized
		}
	}
	var groups []scsi.Group
	for _, tag := range slices.Sorted(maps.Keys(states)) {
		groups = append(groups, scsi.Group{ID: tag, State: states[tag], Ports: []scsi.Port{{ID: tag, Name: fmt.Sprintf("%s,t,0x%04x", target, tag)}}})
	}
	return groups
}

// elsewhere lists the other hosts' portals; all lead to every target.
func (t *targets) elsewhere(string) (list []iscsi.Address) {
	st := t.m.node.Cluster.State()
	for _, h := range st.SortedHosts() {
		if h.Val.Portal != "" && h.Val.ID != t.h.dir.id.Host && st.AliveHost(h.Val.ID) {
			list = append(list, iscsi.Address{Addr: h.Val.Portal, Group: h.Val.PortalGroup})
		}
	}
	return list
}

// settle is asked before a login is refused, or goes to a target that is not
// served here: what is offered is brought up to date, and if nobody serves the
// target and this host is the one to, it does from now on.
func (t *targets) settle(target string) {
	rec, known := t.m.node.Cluster.State().ExportByTarget(target)
	if known && t.carried(rec.Val) {
		return
	}
	t.catchUp()
	if rec, known = t.m.node.Cluster.State().ExportByTarget(target); !known || len(rec.Val.Initiators) == 0 {
		return
	}
	if to, err := t.whereTo(rec.Val); err == nil && to == t.h.dir.id.Host {
		if err := t.take(rec.Val.ID); err != nil {
			t.h.log.Warn("a target is not served", "export", rec.Val.Name, "error", err)
		}
	}
}

// carried reports whether there is nothing to settle: another host that lives
// serves an export, which is offered here as the newest record known says.
func (t *targets) carried(e cluster.Export) bool {
	st := t.m.node.Cluster.State()
	s, served := st.Serving[e.ID]
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.offer[e.ID]
	return served && s.Val.Host != t.h.dir.id.Host && st.AliveHost(s.Val.Host) && o != nil && len(o.rec.Val.Initiators) > 0
}

// catchUpEvery bounds how often strangers can have the records read.
const catchUpEvery = 100 * time.Millisecond

// catchUp reads the records, unless that was done a moment ago, and offers what
// they say: somebody who was let in at another host may come here at once.
func (t *targets) catchUp() {
	called := time.Now()
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.read.After(called) {
		return // somebody has meanwhile
	}
	if time.Since(t.read) < catchUpEvery {
		time.Sleep(catchUpEvery - time.Since(t.read)) // a rate, not a poll: whoever comes meanwhile shares this reading
	}
	t.read = time.Now()
	if _, err := t.m.node.Cluster.Refresh(); err != nil {
		t.h.log.Debug("the records of the exports are not read", "error", err)
	}
	t.converge()
}

// whereTo is the host that serves an export, or that is to.
func (t *targets) whereTo(e cluster.Export) (holdfast.HostID, error) {
	st := t.m.node.Cluster.State()
	if s, ok := st.Serving[e.ID]; ok && st.AliveHost(s.Val.Host) {
		return s.Val.Host, nil
	}
	st, err := t.m.node.Cluster.Refresh()
	if err != nil {
		return holdfast.HostID{}, err
	}
	if s, ok := st.Serving[e.ID]; ok {
		if s.Val.Host == t.h.dir.id.Host { // of a lease before this one
			return s.Val.Host, nil
		}
		if st.AliveHost(s.Val.Host) {
			return s.Val.Host, nil
		}
		return holdfast.HostID{}, holdfast.Errorf(holdfast.Unavailable, "the host that served the target was lost a moment ago")
	}
	t.mu.Lock()
	away := maps.Clone(t.away)
	t.mu.Unlock()
	now := time.Now()
	return bestHost(st, e, t.h.dir.id.Host, func(h holdfast.HostID) bool { return now.Before(away[h]) }), nil
}

// mayGo reports whether a target that is served here is to be left to another
// host: this one is drained, and nobody is logged in. Sessions stay as long as
// they last; what they write is written elsewhere (docs/adr/0057).
func (t *targets) mayGo(st *cluster.State, e cluster.Export) bool {
	return st.Hosts[t.h.dir.id.Host].Val.Drained && t.srv.Sessions(e.Target) == 0 && t.elsewhereThan(st, e)
}

// elsewhereThan reports whether a living host that is not drained could serve
// an export instead of this one.
func (t *targets) elsewhereThan(st *cluster.State, e cluster.Export) bool {
	self := t.h.dir.id.Host
	return bestHost(st, e, self, func(holdfast.HostID) bool { return false }) != self
}

// bestHost chooses who is to serve an export: where its first volume is written
// now; else this host, if a good copy is here; else the first living host with
// one; else this one. Drained hosts come last.
func bestHost(st *cluster.State, e cluster.Export, self holdfast.HostID, away func(holdfast.HostID) bool) holdfast.HostID {
	v := st.Volumes[e.Units[0].Volume].Val
	good := func(h holdfast.HostID) bool { return st.AliveHost(h) && !st.Hosts[h].Val.Drained && !away(h) }
	if good(v.Writer) {
		return v.Writer
	}
	to := holdfast.HostID{}
	for _, ref := range v.InSync {
		if good(ref.Host) && (to.IsZero() || ref.Host == self) {
			to = ref.Host
		}
	}
	if to.IsZero() {
		return self
	}
	return to
}

// take has this host serve an export that nobody serves.
func (t *targets) take(id holdfast.ExportID) error {
	c := t.m.node.Cluster
	st := c.State()
	if !t.serves(st, id) {
		s, ok := st.Serving[id]
		if ok && s.Val.Host != t.h.dir.id.Host {
			return holdfast.Errorf(holdfast.Unavailable, "host %s serves it", st.Hosts[s.Val.Host].Val.Name)
		}
		rev, err := c.Serve(t.m.node.Lease(), id, s.Mod)
		if err != nil {
			return err
		}
		c.WaitRev(rev, kv.CallTimeout)
	}
	t.converge()
	return nil
}

// awayFor is how long a host that could not be asked is not asked again.
const awayFor = 5 * time.Second

// forward connects to the host that serves a target.
func (t *targets) forward(target string, group uint16, from string) (net.Conn, error) {
	rec, ok := t.m.node.Cluster.State().ExportByTarget(target)
	if !ok {
		return nil, holdfast.Errorf(holdfast.NotFound, "there is no such target any more")
	}
	to, err := t.whereTo(rec.Val)
	if err != nil {
		return nil, err
	}
	if to == t.h.dir.id.Host {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host is to serve the target and does not yet")
	}
	far, err := t.m.openTarget(to, rec.Val.ID, group, from)
	if err != nil {
		t.mu.Lock()
		t.away[to] = time.Now().Add(awayFor)
		t.mu.Unlock()
		return nil, err
	}
	near, end, err := pair()
	if err != nil {
		far.Close()
		return nil, err
	}
	go splice(end.(io.ReadWriteCloser), far)
	return near, nil
}

// arrive takes a connection that another host's portal carries here, from an
// initiator's address.
func (t *targets) arrive(id holdfast.ExportID, group uint16, from string) (io.ReadWriteCloser, error) {
	if group == 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "portal group 0 does not exist")
	}
	if err := t.take(id); err != nil {
		return nil, err
	}
	t.mu.Lock()
	o := t.offer[id]
	here := o != nil && o.device != nil && !t.over
	t.mu.Unlock()
	if !here {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host does not serve the target now")
	}
	near, end, err := pair()
	if err != nil {
		return nil, err
	}
	t.srv.ServeConn(near, group, from)
	return end, nil
}

// pair makes two connected sockets.
func pair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, holdfast.Errorf(holdfast.IO, "make a pair of sockets: %w", err)
	}
	conn := func(fd int) (net.Conn, error) {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		return net.FileConn(f)
	}
	a, aerr := conn(fds[0])
	b, berr := conn(fds[1])
	if aerr == nil && berr == nil {
		return a, b, nil
	}
	for _, c := range []net.Conn{a, b} {
		if c != nil {
			c.Close()
		}
	}
	return nil, nil, holdfast.Errorf(holdfast.IO, "make a pair of sockets: %w %w", aerr, berr)
}
