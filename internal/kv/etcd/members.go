package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/holdfast-cloud/holdfast"
)

// Membership of the control plane. A joining member is announced as a learner,
// which copies the data without counting for the majority, and is promoted
// when the number of voters calls for it (Voters).

// MemberInfo is one member.
type MemberInfo struct {
	ID      uint64
	Name    string // empty until it has started
	Peer    string
	Client  string // empty until it has started
	Learner bool
	Leader  bool // as the member that was asked believes
}

// Voters returns how many members should vote in a cluster of that many racks
// (one a rack): an odd number up to five. With two racks the second one only
// learns: of two voters none may be lost, so a second would add nothing but
// another thing to lose.
func Voters(racks int) int {
	switch {
	case racks >= 5:
		return 5
	case racks >= 3:
		return 3
	}
	return 1
}

// Members returns the members by name, then identifier.
func (s *Store) Members() ([]MemberInfo, error) {
	var out []MemberInfo
	err := s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		r, err := etcdserverpb.NewClusterClient(conn).MemberList(ctx, &etcdserverpb.MemberListRequest{Linearizable: true})
		if err != nil {
			return err
		}
		st, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
		if err != nil {
			return err
		}
		out = infos(r.Members, st.Leader)
		return nil
	})
	return out, translate(err)
}

func infos(in []*etcdserverpb.Member, leader uint64) []MemberInfo {
	out := make([]MemberInfo, 0, len(in))
	for _, m := range in {
		out = append(out, MemberInfo{ID: m.ID, Name: m.Name, Peer: first(m.PeerURLs), Client: first(m.ClientURLs),
			Learner: m.IsLearner, Leader: m.ID == leader})
	}
	slices.SortFunc(out, func(a, b MemberInfo) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// AddLearner announces a member that will start with that name and peer URL,
// and returns its identifier and the MemberConfig.InitialCluster it must start
// with. Announcing it again returns the same.
func (s *Store) AddLearner(name, peer string) (id uint64, initialCluster string, err error) {
	if _, err := parseURL("peer", peer); err != nil {
		return 0, "", err
	}
	if name == "" || strings.ContainsAny(name, "=,") {
		return 0, "", holdfast.Errorf(holdfast.Invalid, "%q cannot name a control plane member", name)
	}
	err = s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewClusterClient(conn).MemberAdd(ctx, &etcdserverpb.MemberAddRequest{PeerURLs: []string{peer}, IsLearner: true})
		if is(err, rpctypes.ErrGRPCPeerURLExist) || is(err, rpctypes.ErrGRPCMemberExist) {
			return nil // announced before
		}
		return err
	})
	if err != nil {
		return 0, "", translate(err)
	}
	members, err := s.Members()
	if err != nil {
		return 0, "", err
	}
	var parts []string
	for _, m := range members {
		switch {
		case m.Peer == peer:
			id = m.ID
			parts = append(parts, name+"="+peer)
		case m.Name != "":
			parts = append(parts, m.Name+"="+m.Peer)
		default: // announced, not started: etcd matches it by its URL
			parts = append(parts, fmt.Sprintf("unstarted-%x=%s", m.ID, m.Peer))
		}
	}
	if id == 0 {
		return 0, "", holdfast.Errorf(holdfast.Conflict, "the member at %s was removed while it was being added; retry", peer)
	}
	return id, strings.Join(parts, ","), nil
}

// Promote makes a learner a voter; a voter stays one. Kind Unavailable while
// the learner has not caught up (retry later), NotFound if there is none.
func (s *Store) Promote(id uint64) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(members, func(m MemberInfo) bool { return m.ID == id })
	if i < 0 {
		return holdfast.Errorf(holdfast.NotFound, "the control plane has no member %x; add it first", id)
	}
	if !members[i].Learner {
		return nil
	}
	err = s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewClusterClient(conn).MemberPromote(ctx, &etcdserverpb.MemberPromoteRequest{ID: id})
		if is(err, rpctypes.ErrGRPCMemberNotLearner) {
			return nil
		}
		return err
	})
	if is(err, rpctypes.ErrGRPCLearnerNotReady) {
		return holdfast.Errorf(holdfast.Unavailable, "the new member of the control plane has not caught up yet; retry in a second")
	}
	return translate(err)
}

// RemoveMember takes a member out; one that is out already stays out. Kind
// Unavailable if the rest would have no majority.
func (s *Store) RemoveMember(id uint64) error {
	err := s.call(true, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := etcdserverpb.NewClusterClient(conn).MemberRemove(ctx, &etcdserverpb.MemberRemoveRequest{ID: id})
		if is(err, rpctypes.ErrGRPCMemberNotFound) {
			return nil
		}
		return err
	})
	return translate(err)
}

// is reports whether err is the gRPC form of one of etcd's errors.
func is(err, want error) bool {
	var g interface{ GRPCStatus() *status.Status }
	return errors.As(err, &g) && g.GRPCStatus().Message() == rpctypes.ErrorDesc(want)
}
