package sim

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// converge waits until the cluster is whole again: every host alive, every
// volume with all its copies, every VM running.
func (s *simulation) converge() {
	why := "nothing was seen yet"
	for start := s.w.Now(); s.w.Now()-start < healLimit; clock.Sleep(s.c, 500*time.Millisecond) {
		if why = s.absent(); why == "" {
			why = s.unsettled()
		}
		if why == "" {
			why = s.unwhole()
		}
		if why == "" {
			s.tell("the cluster is whole again after %.1f s", (s.w.Now() - start).Seconds())
			return
		}
	}
	s.fail("the cluster is not whole %v after the last fault: %s", healLimit, why)
}

// unsettled has the operator set right what the faults kept from happening.
func (s *simulation) unsettled() string {
	if s.settled {
		why := s.memories.stuck()
		s.settled = why == ""
		return why
	}
	err := s.drains.settle()
	if err == nil {
		err = s.memories.settle()
	}
	if err == nil {
		err = s.op.settle()
	}
	if err == nil {
		err = s.forcing.settle()
	}
	if err != nil {
		return "the operator cannot finish: " + err.Error()
	}
	s.settled = true
	return "the operator has just finished"
}

// absent says which host is missing.
func (s *simulation) absent() string {
	for _, h := range s.hosts {
		if h.node == nil {
			return h.name + " does not serve"
		}
		if h.unsound != "" {
			return h.name + "'s disk: " + h.unsound
		}
	}
	st := s.hosts[0].node.Cluster.State()
	for _, h := range s.hosts {
		if !st.AliveHost(h.rec.ID) {
			return h.name + " is not alive"
		}
	}
	return ""
}

// unwhole says what is still missing when the operator has set everything right:
// until then a copy may have no place to go to.
func (s *simulation) unwhole() string {
	st := s.hosts[0].node.Cluster.State()
	for _, v := range st.SortedVolumes() {
		if v.Val.Deleted {
			return fmt.Sprintf("volume %s is still there", v.Val.Name)
		}
		if len(v.Val.InSync) < v.Val.Copies || len(v.Val.Others) > 0 {
			return fmt.Sprintf("volume %s has %d of %d copies and %d others", v.Val.Name, len(v.Val.InSync), v.Val.Copies, len(v.Val.Others))
		}
	}
	if why := rearranging(st); why != "" {
		return why
	}
	if why := s.forcing.waiting(st); why != "" {
		return why
	}
	for _, vm := range st.SortedVMs() {
		if m := st.Machines[vm.Val.ID].Val; m.State != string(hypervisor.Running) || m.Host != vm.Val.Host || m.Generation != vm.Val.Generation {
			return fmt.Sprintf("VM %s is %s (%s)", vm.Val.Name, m.State, m.Reason)
		}
	}
	return s.twice()
}

// verify reads everything back and compares the replicas.
func (s *simulation) verify() {
	if len(s.res.Failures) > 0 {
		return
	}
	for _, c := range s.clients {
		c.verify()
	}
	s.judge()
	clock.Sleep(s.c, 3*time.Second) // stable follows within a second when nobody flushes
	for _, v := range s.hosts[0].node.Cluster.State().SortedVolumes() {
		// This opens it: of one that nobody has opened since power was lost, what
		// was never flushed may be on one disk only.
		if v.Val.Copies > 1 {
			s.compareMaps(v.Val)
		}
		if now := s.hosts[0].node.Cluster.State().Volumes[v.Val.ID]; v.Val.VM.IsZero() {
			s.compare(now.Val)
		}
	}
	s.op.check()
	s.memories.check()
	s.forcing.check(s.hosts[0].node.Cluster.State())
	s.cleared()
	if len(s.res.Failures) == 0 && !(s.with("last-resort") && s.lastResort(s.w.Rand("last resort"))) && len(s.res.Failures) == 0 && s.with("damage") {
		s.damage(s.w.Rand("damage"))
	}
	s.tell("verified;%s%s %d tasks of the operator, %d snapshots, %d groups, %d tried in vain, %d drains, %d volumes handed over", s.vms, s.memories, s.op.done, len(s.op.snaps), len(s.groups.taken), len(s.groups.failed), s.drains.orders, s.drains.handed)
}

// twice names a VM that has two machines, none, or one of an earlier assignment or
// start. Two are there for a moment when a host thaws whose VM moved: its machine can
// no longer write, and its agent ends it as soon as it sees the records.
func (s *simulation) twice() string {
	n := make(map[holdfast.VMID]int)
	st := s.hosts[0].node.Cluster.State()
	for _, h := range s.hosts {
		for _, m := range h.vmhost.Machines() {
			id := m.Spec().VM
			n[id]++
			if is, should := m.Spec().Generation, st.VMs[id].Val.Generation; is != should {
				return fmt.Sprintf("a machine of VM %s on %s is of generation %d, and the VM is at %d", s.vms.of(id).name, h.name, is, should)
			}
		}
	}
	for _, vm := range s.vms.vms {
		if n[vm.ID] > 1 || s.settled && n[vm.ID] == 0 {
			return fmt.Sprintf("VM %s has %d machines", vm.Name, n[vm.ID])
		}
	}
	return ""
}

// verify reads the whole volume through a session, and another one if the
// first was of a writer that had not noticed yet that it is fenced.
func (c *blockClient) verify() {
	var last error
	for b, tries := 0, 0; b < volumeBlocks; {
		if tries == 600 {
			c.s.fail("client %d: block %d cannot be read though everything was put right: %v", c.n, b, last)
			return
		}
		if c.disk == nil && !c.connect() {
			tries, last = tries+1, c.refused
			clock.Sleep(c.s.c, 100*time.Millisecond)
			continue
		}
		o := c.reading(b)
		if !c.submit([]*operation{o}) {
			tries, last = tries+1, o.err
			c.drop()
			continue
		}
		c.spare = append(c.spare, o.req.Data)
		b++
	}
	if !c.flushes() {
		c.s.fail("client %d: a flush fails though everything was put right", c.n)
	}
	c.drop()
}

// flushes reports whether a flush ends well within a minute, though its client
// may lose patience with some: a question to a copy that was lost in a storm of
// datagrams is asked again only when its time is up, for on connections of the
// product's own none is lost without its sender being told.
func (c *blockClient) flushes() bool {
	for start := c.s.w.Now(); c.s.w.Now()-start < time.Minute; clock.Sleep(c.s.c, 100*time.Millisecond) {
		if (c.disk != nil || c.connect()) && c.flush() {
			return true
		}
		c.drop()
	}
	return false
}

// compare reads every block of every replica, which must be equal.
func (s *simulation) compare(v cluster.Volume) {
	var first []byte
	for _, ref := range v.InSync {
		got, err := s.content(v, ref)
		if err != nil {
			s.fail("volume %s: replica on %s: %v", v.Name, s.nameOf(ref.Host), err)
			return
		}
		if first == nil {
			first = got
		} else if !bytes.Equal(first, got) {
			s.fail("volume %s: the replicas differ (invariant 7)", v.Name)
		}
	}
}

// compareMaps has the volume's writer compare the replicas, all roots of them, as
// an operator would: every block must be the same write everywhere, not only look
// the same.
func (s *simulation) compareMaps(v cluster.Volume) {
	err := holdfast.Errorf(holdfast.Unavailable, "it was not tried")
	for try := 0; try < 60 && lostWriter(err); try++ {
		if try > 0 {
			clock.Sleep(s.c, time.Second)
		}
		h, werr := s.op.writer(v.ID)
		if werr != nil {
			h = s.hostOf(v)
		}
		if !s.runOn(h, time.Minute, func() { err = s.compareOn(h, v) }) {
			err = holdfast.Errorf(holdfast.Unavailable, "%s went away", h.name)
		}
	}
	if err != nil {
		s.fail("volume %s: its replicas cannot be compared: %v", v.Name, err)
	}
}

// lostWriter reports whether an error says that a volume's writer has just been lost,
// to a restart, or to a leader that hears late of the past.
func lostWriter(err error) bool {
	return holdfast.IsKind(err, holdfast.Unavailable) || holdfast.IsKind(err, holdfast.Fenced) || holdfast.IsKind(err, holdfast.Closed)
}

// hostOf is where a volume may be opened that nobody writes.
func (s *simulation) hostOf(v cluster.Volume) *host {
	vm := s.eye.State().VMs[v.VM].Val
	for _, h := range s.hosts {
		if h.rec.ID == vm.Host {
			return h
		}
	}
	return s.hosts[0]
}

func (s *simulation) compareOn(h *host, v cluster.Volume) error {
	w, err := h.node.Volumes.Open(v.ID)
	for c := (volume.Comparison{More: true}); c.More && err == nil; {
		if c, err = w.Compare(c.Next); err == nil && len(c.Differences) > 0 {
			s.fail("volume %s: the replicas' maps differ (invariant 7): %+v", v.Name, c.Differences[0])
			return nil
		}
	}
	return err
}

func (s *simulation) nameOf(id holdfast.HostID) string {
	for _, h := range s.hosts {
		if h.rec.ID == id {
			return h.name
		}
	}
	return id.Short()
}

const (
	mendedWithin = 11 * time.Minute
	mendedLooks  = 10 * time.Second
)

// content reads a replica. A block that it lacks, since no disk that could be asked
// gave it when it was to be copied, is waited for: its host asks the others again for
// it, in the end every ten minutes.
func (s *simulation) content(v cluster.Volume, ref cluster.Replica) (got []byte, err error) {
	for start := s.w.Now(); s.w.Now()-start < mendedWithin; clock.Sleep(s.c, mendedLooks) {
		got, err = s.read(ref, int(v.Blocks), func(r *store.Replica, buf []byte) error { return r.ReadOpened(buf, 0, s.opener(v)) })
		var bad *store.CorruptError
		if !errors.As(err, &bad) {
			break
		}
	}
	return got, err
}

// read reads something of a replica, on its host.
func (s *simulation) read(ref cluster.Replica, blocks int, f func(*store.Replica, []byte) error) (buf []byte, err error) {
	for _, h := range s.hosts {
		if h.rec.ID != ref.Host {
			continue
		}
		ok := s.runOn(h, time.Minute, func() {
			var r *store.Replica
			if h.node == nil {
				err = holdfast.Errorf(holdfast.Unavailable, "%s does not serve", h.name)
				return
			}
			for _, st := range h.node.Volumes.Stores() {
				if k := st.Replica(ref.ID); k != nil {
					r = k
				}
			}
			if r == nil {
				err = holdfast.Errorf(holdfast.NotFound, "it is not there")
				return
			}
			buf = make([]byte, blocks*holdfast.BlockSize)
			err = f(r, buf)
		})
		if !ok {
			err = holdfast.Errorf(holdfast.Unavailable, "reading it took too long")
		}
	}
	return buf, err
}
