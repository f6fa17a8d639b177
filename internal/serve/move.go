package serve

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Times of a move of the control plane.
const (
	moveAsk  = 10 * time.Second // for a host to say whether it could follow
	moveLook = 200 * time.Millisecond
)

// KVReady implements httpapi.Mover.
func (h *Host) KVReady(context.Context) v1.KVReady {
	k := h.cfg.KV
	out := v1.KVReady{Endpoints: k.Endpoints, Prefix: k.Prefix}
	if !k.External() {
		out.Endpoints, out.Error = []string{}, "it was started without an external etcd"
		return out
	}
	id, err := h.tryExternal()
	if err != nil {
		out.Error = err.Error()
		return out
	}
	out.Etcd = fmt.Sprintf("%x", id)
	return out
}

// moveOrder is a move that could be made.
type moveOrder struct {
	m     *member
	state *cluster.State
	move  cluster.Move
}

// MovePlan implements httpapi.Mover.
func (h *Host) MovePlan(ctx context.Context) (v1.KVMove, error) {
	_, p, err := h.planMove(ctx)
	return p, err
}

func (h *Host) planMove(ctx context.Context) (*moveOrder, v1.KVMove, error) {
	m, err := h.member()
	if err != nil {
		return nil, v1.KVMove{}, err
	}
	ms := *m.ms.Load()
	switch {
	case ms.External:
		return nil, v1.KVMove{}, holdfast.Errorf(holdfast.Conflict, "the control plane of cluster %s is in an external etcd already", ms.Name)
	case !h.cfg.KV.External():
		return nil, v1.KVMove{}, holdfast.Errorf(holdfast.Conflict, "this host was started without an external etcd: put kv.endpoints and what belongs to it into every host's configuration (or serve --etcd), start them again one after another, then come back")
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return nil, v1.KVMove{}, err
	}
	here := h.KVReady(ctx)
	if here.Error != "" {
		return nil, v1.KVMove{}, holdfast.Errorf(holdfast.Conflict, "%s", here.Error)
	}
	o := &moveOrder{m, st, cluster.Move{Incarnation: ms.Incarnation + 1, Host: h.dir.id.Host, To: here.Endpoints, Prefix: here.Prefix, Etcd: here.Etcd}}
	if o.move.ID, err = newUUID(); err != nil {
		return nil, v1.KVMove{}, err
	}
	p := v1.KVMove{State: "planned", Cluster: ms.Name, Host: h.cfg.Name, Incarnation: o.move.Incarnation, To: here.Endpoints, Prefix: here.Prefix,
		Hosts: h.whoFollows(ctx, m, st, here), Blocked: []string{}, Warnings: []string{}}
	if was := st.Moved; was != nil {
		if was.Etcd != here.Etcd || was.Prefix != here.Prefix {
			return nil, p, holdfast.Errorf(holdfast.Conflict, "a move to another etcd or prefix has begun (%v, prefix %q) and has not ended: give it up first with --cancel", was.To, was.Prefix)
		}
		o.move = *was
		p.State, p.Incarnation = "begun", was.Incarnation
		p.Warnings = append(p.Warnings, "this move had begun and did not end: nothing could be changed since; it is gone on with")
	}
	for _, x := range p.Hosts {
		switch x.State {
		case "blocks":
			p.Blocked = append(p.Blocked, fmt.Sprintf("host %s: %s", x.Name, x.Why))
		case "away":
			p.Warnings = append(p.Warnings, fmt.Sprintf("host %s is away: when it comes back it finds where the control plane is, and needs the etcd in its configuration then; its VMs are started elsewhere meanwhile", x.Name))
		}
	}
	p.Warnings = append(p.Warnings, "the processes of all hosts begin anew, VMs go on; for some seconds nothing can be changed and guests' writes wait",
		"join codes that were not used are void",
		"the way back is 'holdfast cluster recover' while no host reaches the etcd: it starts all VMs anew")
	return o, p, nil
}

// whoFollows asks every host whether it could use the etcd: what is right here may
// be wrong there.
func (h *Host) whoFollows(ctx context.Context, m *member, st *cluster.State, here v1.KVReady) []v1.KVMoveHost {
	hosts := st.SortedHosts()
	out := make([]v1.KVMoveHost, len(hosts))
	var wg sync.WaitGroup
	for i, rec := range hosts {
		out[i] = v1.KVMoveHost{Name: rec.Val.Name, Rack: rec.Val.Domain.Rack, State: "follows"}
		switch {
		case rec.Val.Witness:
			out[i].State, out[i].Why = "blocks", "it is a witness, which has nothing to vote in with an external etcd; remove it first"
		case rec.Val.ID == h.dir.id.Host:
		case !st.AliveHost(rec.Val.ID):
			out[i].State = "away"
			if st.Moved != nil {
				out[i].State = "follows" // no lease is good any more
			}
		default:
			wg.Go(func() {
				if why := h.follows(ctx, m, rec.Val, here); why != "" {
					out[i].State, out[i].Why = "blocks", why
				}
			})
		}
	}
	wg.Wait()
	return out
}

// follows says why a host could not use the etcd that this one is given; empty: it
// could.
func (h *Host) follows(ctx context.Context, m *member, rec cluster.Host, here v1.KVReady) string {
	ctx, cancel := context.WithTimeout(ctx, moveAsk)
	defer cancel()
	c := client.HTTPS(rec.APIAddr, auth.ClientTLS(m.creds, nil))
	defer c.Close()
	there, err := c.KVReady(ctx)
	switch {
	case err != nil:
		return err.Error()
	case there.Error != "":
		return there.Error
	case there.Etcd != here.Etcd:
		return fmt.Sprintf("its configuration leads to another etcd (%v)", there.Endpoints)
	case there.Prefix != here.Prefix:
		return fmt.Sprintf("its configuration has prefix %q, this host's %q", there.Prefix, here.Prefix)
	}
	return ""
}

// MoveKV implements httpapi.Mover.
func (h *Host) MoveKV(ctx context.Context, name string) (v1.KVMove, error) {
	o, p, err := h.planMove(ctx)
	if err != nil {
		return p, err
	}
	if name != p.Cluster {
		return p, holdfast.Errorf(holdfast.Invalid, "nothing was done: this cluster is %s, not %s", p.Cluster, name)
	}
	if len(p.Blocked) > 0 {
		return p, holdfast.Errorf(holdfast.Conflict, "nothing was done: %s", p.Blocked[0])
	}
	if err := h.carryOver(o); err != nil {
		return p, h.stay(o, err)
	}
	h.log.Warn("the control plane has moved into the external etcd", "incarnation", o.move.Incarnation, "to", o.move.To)
	p.State = "done"
	time.AfterFunc(answerFirst, func() { h.enterMoved(o.m, o.move) })
	return p, nil
}

// carryOver moves the control plane: the old one is ended, by a commit after which
// it takes none; what stands in it then is written to the new place; and with the
// last commit there the new one begins. At no time are there two.
func (h *Host) carryOver(o *moveOrder) error {
	to, err := h.dialChecked(func(reader) error { return nil })
	if err != nil {
		return err
	}
	defer to.Close()
	if err := cluster.Announce(to, o.move); err != nil {
		return err
	}
	if o.state.Moved == nil {
		_, err := o.m.kv.Commit([]kv.Cond{{Key: cluster.FenceKey}}, []kv.Op{{Key: cluster.FenceKey, Value: o.move.Encode()}})
		if err != nil {
			return err
		}
	}
	if err := o.m.kv.EndLeases(); err != nil {
		return err
	}
	items, rev, err := cluster.ReadAll(o.m.kv)
	if err != nil {
		return err
	}
	if was, ok := cluster.MoveIn(items); !ok || was.ID != o.move.ID {
		return holdfast.Errorf(holdfast.Conflict, "another move has begun at the same time")
	}
	next, err := cluster.PlanMove(items, rev, o.move)
	if err != nil {
		return err
	}
	return cluster.Arrive(to, o.move, next)
}

// stay opens the old control plane again after a failure, if the new one has not
// begun.
func (h *Host) stay(o *moveOrder, why error) error {
	err := h.giveUp(o.m, o.move.ID)
	if err == nil || holdfast.IsKind(err, holdfast.NotFound) {
		return holdfast.Errorf(holdfast.KindOf(why), "the control plane stays where it is: %w", why)
	}
	return holdfast.Errorf(holdfast.Unknown, "the move has begun and could not be ended (%v), nor be given up (%w); nothing can be changed until it is: run the command again, or with --cancel", why, err)
}

// CancelMove implements httpapi.Mover.
func (h *Host) CancelMove(context.Context) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	if st.Moved == nil {
		return holdfast.Errorf(holdfast.Conflict, "no move of the control plane is under way")
	}
	return h.giveUp(m, st.Moved.ID)
}

// giveUp ends a move that has not arrived, there first. Kind NotFound: none was
// begun here; Conflict: it has arrived.
func (h *Host) giveUp(m *member, id holdfast.UUID) error {
	items, _, err := m.kv.Range(cluster.FenceKey)
	if err != nil {
		return err
	}
	move, ok := cluster.MoveIn(items)
	if !ok || move.ID != id {
		return holdfast.Errorf(holdfast.NotFound, "this move has not begun")
	}
	to, err := h.dialChecked(func(reader) error { return nil })
	if err != nil {
		return err
	}
	defer to.Close()
	if err := cluster.GiveUp(to, move); err != nil {
		return err
	}
	return m.kv.Lift(items[0].Mod)
}

// followMove has this host go where the control plane has moved to. It ends with the
// member.
func (h *Host) followMove(m *member) {
	var told holdfast.UUID
	for {
		select {
		case <-m.done:
			return
		default:
		}
		c := m.node.Cluster
		if !c.WaitFor(func(s *cluster.State) bool { return s.Moved != nil }, endpointsEvery) {
			continue
		}
		if move := c.State().Moved; move != nil {
			err := h.arrived(m, *move)
			if err == nil && h.enterMoved(m, *move) {
				return
			}
			if err != nil && told != move.ID {
				told = move.ID
				h.log.Warn("the control plane is moving into an external etcd", "to", move.To, "not_there_yet", err)
			}
		}
		select {
		case <-m.done:
		case <-time.After(moveLook):
		}
	}
}

// arrived reports, with nil, that the control plane is in the external etcd that
// this host is given.
func (h *Host) arrived(m *member, move cluster.Move) error {
	if !h.cfg.KV.External() {
		return holdfast.Errorf(holdfast.Conflict, "this host was started without an external etcd; start it with --etcd and what belongs to it")
	}
	ms := *m.ms.Load()
	to, err := h.dialChecked(func(get reader) error { return cluster.Arrived(ms.Cluster, ms.Name, move, get) })
	if err != nil {
		return err
	}
	defer to.Close()
	for _, s := range to.Look() {
		if err = s.Err; err == nil {
			return nil
		}
	}
	return err
}

// enterMoved writes down that the control plane of this host is in the external
// etcd from now on, and has the host begin anew there, unless that is done. It
// reports whether it is.
func (h *Host) enterMoved(m *member, move cluster.Move) bool {
	before := false
	err := h.remember(m, func(ms *membership) {
		before = ms.External
		ms.Incarnation, ms.Etcd, ms.Ended = move.Incarnation, etcdDirOf(move.Incarnation), 0
		ms.Member, ms.Initial, ms.Endpoints, ms.External = false, "", nil, true
	})
	if err != nil {
		h.log.Error("that the control plane has moved could not be written down", "error", err)
		return false
	}
	if !before {
		h.log.Info("this host begins anew with the control plane in the external etcd", "incarnation", move.Incarnation)
		h.restart(nil)
	}
	return true
}
