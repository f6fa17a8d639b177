package httpapi

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func (s *Server) poolRoutes() {
	type ref struct {
		Pool string `path:"pool" maxLength:"63" doc:"Name or identity"`
	}
	read(s, "/v1/pools", "pool-list", "The pools of disks", func(p picture, _ *none) ([]v1.Pool, error) {
		return render(p.pools(), p.renderPool), nil
	})
	read(s, "/v1/pools/{pool}", "pool-show", "One pool", func(p picture, in *ref) (v1.Pool, error) {
		pool, err := p.pool(in.Pool)
		return p.renderPool(pool), err
	})
	act(s, s.operation("POST", "/v1/pools", "pool-create", "Make a pool, to which disks are then added", 201), s.createPool)
	do(s, s.operation("DELETE", "/v1/pools/{pool}", "pool-delete", "Delete a pool that nothing is in", 204), func(ctx context.Context, in *ref) error {
		pool, err := lookup(ctx, s, in.Pool, picture.pool)
		if err != nil {
			return err
		}
		if pool.ID.IsZero() {
			return holdfast.Errorf(holdfast.Invalid, "pool %s is always there: it holds what has no other pool", pool.Name)
		}
		return s.changer(ctx).DeletePool(ctx, pool.ID)
	})
}

func (s *Server) createPool(ctx context.Context, in *request[v1.PoolSpec]) (v1.Pool, error) {
	n := cluster.Pool{Name: in.Body.Name, Tier: cluster.Tier(in.Body.Tier), Copies: in.Body.Copies, IO: cluster.IO(in.Body.IO)}
	if n.IO == "mixed" {
		n.IO = cluster.Mixed
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Pool{}, err
	}
	if err := holdfast.CheckName("pool", n.Name); err != nil {
		return v1.Pool{}, err
	}
	if _, taken := p.PoolByName(n.Name); taken {
		return v1.Pool{}, holdfast.Errorf(holdfast.Exists, "a pool named %q exists; choose another name", n.Name)
	}
	if n.Tier == cluster.RAM && n.IO != cluster.Mixed {
		return v1.Pool{}, holdfast.Errorf(holdfast.Invalid, "pool %s: memory has no page cache to go through or past; leave io out", n.Name)
	}
	if n, err = s.changer(ctx).CreatePool(ctx, n); err != nil {
		return v1.Pool{}, err
	}
	if p, err = s.picture(ctx); err != nil {
		return v1.Pool{}, err
	}
	return p.renderPool(n), nil
}

func (s *Server) addDisk(ctx context.Context, in *request[v1.DiskSpec]) (v1.Disk, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.Disk{}, err
	}
	n, err := s.newDisk(p, in.Body)
	if err != nil {
		return v1.Disk{}, err
	}
	d, err := s.changer(ctx).AddDisk(ctx, n)
	if err != nil {
		return v1.Disk{}, err
	}
	if p, err = s.picture(ctx); err != nil {
		return v1.Disk{}, err
	}
	return p.renderDisk(d), nil
}

// newDisk checks a request and resolves its pool.
func (s *Server) newDisk(p picture, spec v1.DiskSpec) (NewDisk, error) {
	n := NewDisk{Path: spec.Path, Size: spec.Size, RAM: spec.RAM}
	var err error
	if n.Pool, err = p.pool(spec.Pool); err != nil {
		return n, err
	}
	inMemory := n.Pool.Tier == cluster.RAM
	what := "disk " + clip(spec.Path)
	if spec.RAM > 0 {
		what = "a disk in memory"
	}
	switch {
	case spec.RAM > 0 && (spec.Path != "" || spec.Size > 0):
		return n, holdfast.Errorf(holdfast.Invalid, "a disk is either a path or memory; give one of them")
	case spec.RAM > 0 && !inMemory:
		return n, holdfast.Errorf(holdfast.Invalid, "%s belongs in a pool of tier ram, and pool %s is none: make one with 'holdfast pool create NAME --tier ram'", what, n.Pool.Name)
	case spec.RAM == 0 && inMemory:
		return n, holdfast.Errorf(holdfast.Invalid, "%s: pool %s takes only memory; use --ram SIZE instead of a path, or another pool", what, n.Pool.Name)
	case spec.RAM == 0 && (strings.ContainsRune(spec.Path, 0) || !filepath.IsAbs(spec.Path)):
		return n, holdfast.Errorf(holdfast.Invalid, "disk %q: give an absolute path on host %s, like /dev/sdb", clip(spec.Path), s.o.Backend.Self().Name)
	case (spec.Size+spec.RAM)%holdfast.BlockSize != 0:
		return n, holdfast.Errorf(holdfast.Invalid, "%s: size %d is not a multiple of %d bytes", what, spec.Size+spec.RAM, holdfast.BlockSize)
	}
	if n.RAM == 0 {
		n.Path = filepath.Clean(n.Path)
	}
	return n, nil
}

// pools returns the pools, the default one first.
func (p picture) pools() []cluster.Pool {
	def, _ := p.Pool(holdfast.PoolID{})
	out := []cluster.Pool{def}
	for _, rec := range p.SortedPools() {
		out = append(out, rec.Val)
	}
	return out
}

// pool finds a pool; none is the default one.
func (p picture) pool(ref string) (cluster.Pool, error) {
	if ref == "" {
		ref = cluster.DefaultPool
	}
	return find("pool", ref, p.pools(),
		func(v cluster.Pool) holdfast.UUID { return v.ID.UUID },
		func(v cluster.Pool) string { return v.Name },
		func(cluster.Pool) bool { return false })
}

func (p picture) renderPool(v cluster.Pool) v1.Pool {
	out := v1.Pool{Name: v.Name, Tier: "any", Copies: v.Copies, IO: "mixed", State: "ok", Flush: flushOf(v), Racks: []string{}}
	if !v.ID.IsZero() {
		out.ID, out.Tier, out.Created = v.ID.String(), string(v.Tier), &v.Created
	}
	if v.IO != cluster.Mixed {
		out.IO = string(v.IO)
	}
	if v.Tier == cluster.RAM {
		out.IO = ""
	}
	if v.Deleted {
		out.State = "deleting"
	}
	racks := map[string]bool{}
	for _, d := range p.disks() {
		if d.Pool != v.ID {
			continue
		}
		out.Disks++
		racks[p.rackOf(d.Host)] = true
		if u, ok := p.use(d); ok && u.Error == "" {
			out.Total += u.Total
			out.Free += u.Free
		}
	}
	for _, r := range p.racks() {
		if racks[r] {
			out.Racks = append(out.Racks, r)
		}
	}
	for _, vol := range p.volumes() {
		if vol.Pool == v.ID && !vol.Deleted {
			out.Volumes++
		}
	}
	return out
}

// flushOf says what a flush means in a pool.
func flushOf(p cluster.Pool) string {
	if p.Tier == cluster.RAM {
		return "in memory of every in-sync copy"
	}
	return "on disk of every in-sync copy"
}

// clonePool refuses another pool for a clone than its origin's.
func (p picture) clonePool(what, ref string, origin cluster.Volume) error {
	if ref == "" {
		return nil
	}
	want, err := p.pool(ref)
	if err != nil || want.ID == origin.Pool {
		return err
	}
	return holdfast.Errorf(holdfast.Invalid, "%s: it shares its blocks with %s and stays in that one's pool, %s; import an image with --pool %s to have it there",
		what, origin.Name, p.PoolName(origin.Pool), want.Name)
}
