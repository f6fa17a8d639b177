package httpapi

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

func (s *Server) keyRoutes() {
	read(s, "/v1/cluster/key", "cluster-key", "What is known of the cluster's key", func(p picture, _ *none) (v1.ClusterKey, error) {
		return p.renderKey(), nil
	})
	for _, c := range []struct {
		path, id, summary string
		f                 func(context.Context, NewKey) error
	}{
		{"/v1/cluster/key", "cluster-key-init", "Give the cluster its first key", s.o.Backend.InitKey},
		{"/v1/cluster/key/unlock", "cluster-key-unlock", "Load the cluster's key on the answering host, from which the others take it", s.o.Backend.UnlockKey},
		{"/v1/cluster/key/rotate", "cluster-key-rotate", "Replace the cluster's key and wrap every volume's anew", s.o.Backend.RotateKey},
	} {
		act(s, s.operation("POST", c.path, c.id, c.summary, 200), func(ctx context.Context, in *request[v1.KeySpec]) (v1.ClusterKey, error) {
			k, err := newKey(in.Body)
			if err != nil {
				return v1.ClusterKey{}, err
			}
			if err := c.f(ctx, k); err != nil {
				return v1.ClusterKey{}, err
			}
			p, err := s.picture(ctx)
			if err != nil {
				return v1.ClusterKey{}, err
			}
			return p.renderKey(), nil
		})
	}
}

func newKey(in v1.KeySpec) (NewKey, error) {
	if (in.Key == "") == (in.Passphrase == "") {
		return NewKey{}, holdfast.Errorf(holdfast.Invalid, "give either the line of a key file or a passphrase")
	}
	if in.Key == "" {
		return NewKey{Passphrase: []byte(in.Passphrase)}, nil
	}
	b, err := v1.ParseClusterKey(in.Key)
	if err != nil {
		return NewKey{}, err
	}
	k := keyring.Key(b)
	return NewKey{Key: &k}, nil
}

func (p picture) renderKey() v1.ClusterKey {
	out := v1.ClusterKey{State: "none", Loaded: []string{}, Missing: []string{}}
	if p.Keyring.Mod == 0 {
		return out
	}
	cur := p.Keyring.Val.Current()
	out.ID, out.From, out.Created = string(cur.ID), string(cur.From), &cur.Created
	for _, h := range p.hosts() {
		switch a, alive := p.Alive[h.ID]; {
		case alive && slices.Contains(a.Val.Keys, cur.ID):
			out.Loaded = append(out.Loaded, h.Name)
		case alive:
			out.Missing = append(out.Missing, h.Name)
		}
	}
	for _, v := range p.volumes() {
		if v.Encrypted() && !v.Deleted {
			out.Volumes++
		}
	}
	out.ToWrap = p.LeftToWrap()
	switch {
	case len(out.Loaded) == 0:
		out.State = "locked"
	case len(p.Keyring.Val.Keys) > 1:
		out.State = "rotating"
	default:
		out.State = "unlocked"
	}
	return out
}
