package httpapi

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func ownedVM(id holdfast.VMID) string         { return "vm-" + id.String() }
func ownedVolume(id holdfast.VolumeID) string { return "volume-" + id.String() }

// within is what there is for a project: its VMs, their disks, its volumes, and
// the images that belong to no project. Whoever acts finds things in it, so what
// is not in it is not there for them.
func within(st *cluster.State, project string, owner func(id string) string) *cluster.State {
	out := *st
	out.VMs = maps.Clone(st.VMs)
	maps.DeleteFunc(out.VMs, func(id holdfast.VMID, _ cluster.Versioned[cluster.VM]) bool { return owner(ownedVM(id)) != project })
	out.Machines = maps.Clone(st.Machines)
	maps.DeleteFunc(out.Machines, func(id holdfast.VMID, _ cluster.Versioned[cluster.Machine]) bool {
		_, ok := out.VMs[id]
		return !ok
	})
	out.Volumes = maps.Clone(st.Volumes)
	maps.DeleteFunc(out.Volumes, func(id holdfast.VolumeID, v cluster.Versioned[cluster.Volume]) bool {
		of := owner(ownedVolume(id))
		if !v.Val.VM.IsZero() { // a disk goes with its VM
			_, ok := out.VMs[v.Val.VM]
			return !ok
		}
		return of != project && !(v.Val.Image && of == account.DefaultProject)
	})
	out.Exports, out.Serving = map[holdfast.ExportID]cluster.Versioned[cluster.Export]{}, map[holdfast.ExportID]cluster.Versioned[cluster.Serving]{}
	out.Schedules, out.Incidents = map[string]cluster.Versioned[cluster.BackupSchedule]{}, map[string]cluster.Versioned[cluster.Incident]{}
	out.Bad = map[string]string{}
	return &out
}

// projectOf is the project of who calls; "": the whole cluster is theirs.
func projectOf(ctx context.Context) string {
	if who := principal(ctx); who != nil {
		return who.Project
	}
	return ""
}

// inProject is ctx as of somebody to whom a project is all there is.
func inProject(ctx context.Context, project string) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{who: &account.Principal{Project: project}})
}

// there reports of a picture whether what a project owns still is.
func there(st *cluster.State) func(id string) bool {
	return func(id string) bool {
		kind, text, _ := strings.Cut(id, "-")
		u, err := holdfast.ParseUUID(text)
		if err != nil {
			return false
		}
		if kind == "vm" {
			v, ok := st.VMs[holdfast.VMID{UUID: u}]
			return ok && !v.Val.Deleted
		}
		v, ok := st.Volumes[holdfast.VolumeID{UUID: u}]
		return ok && !v.Val.Deleted
	}
}

// admitted has something made, in the quota of the caller's project if there is
// one, and gives it to that.
func (s *Server) admitted(ctx context.Context, share account.Share, do func() (id string, err error)) error {
	project := projectOf(ctx)
	if project == "" {
		_, err := do()
		return err
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	st, err := s.o.Backend.State(ctx)
	if err != nil {
		return err
	}
	if tried(ctx) {
		if err := a.Fits(project, share, there(st)); err != nil {
			return err
		}
		_, err := do()
		return err
	}
	held, err := a.Reserve(project, share, there(st))
	if err != nil {
		return err
	}
	id, err := do()
	if err != nil || id == "" {
		_ = a.Release(held) // or it ends by itself
		return err
	}
	if err := a.Keep(held, id); err != nil {
		return holdfast.Errorf(holdfast.KindOf(err), "it was made and is not in project %s: %w; a cluster admin can give it to the project", project, err)
	}
	return nil
}

// resized has something changed that counts for more or less afterwards. key ""
// is in no project.
func (s *Server) resized(ctx context.Context, key string, f func(account.Share) account.Share, do func() error) error {
	if s.o.Accounts == nil || key == "" {
		return do()
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	if tried(ctx) {
		if err := a.FitsResized(key, f); err != nil {
			return err
		}
		return do()
	}
	var was account.Share
	if err := a.Resize(key, func(x account.Share) account.Share { was = x; return f(x) }); err != nil {
		return err
	}
	err = do()
	if err != nil {
		_ = a.Resize(key, func(account.Share) account.Share { return was }) // or it counts for more until the next change
	}
	return err
}

// left takes what was deleted out of its project; its disks that stay are given to
// that, each by itself.
func (s *Server) left(ctx context.Context, key string, stay ...holdfast.VolumeID) error {
	if s.o.Accounts == nil || tried(ctx) {
		return nil
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	project := a.Owner(key)
	if project == account.DefaultProject {
		return nil
	}
	if err := a.Release(key); err != nil {
		return err
	}
	st, err := s.o.Backend.State(ctx)
	for _, id := range stay {
		if v, ok := st.Volumes[id]; err == nil && ok && !v.Val.Deleted {
			err = a.Assign(ownedVolume(id), project, account.Share{Bytes: int64(v.Val.Blocks) * holdfast.BlockSize})
		}
	}
	return err
}

// disksOf are the volumes of a VM that it boots from or has beside that.
func disksOf(v cluster.VM) []holdfast.VolumeID {
	out := []holdfast.VolumeID{v.Volume}
	for _, d := range v.Disks {
		out = append(out, d.Volume)
	}
	return out
}

// sizeOf is what volumes of a picture have, in bytes.
func (p picture) sizeOf(ids ...holdfast.VolumeID) (n int64) {
	for _, id := range ids {
		n += int64(p.Volumes[id].Val.Blocks) * holdfast.BlockSize
	}
	return n
}

// grown has a volume made larger, in the quota of the project that it counts for.
func (s *Server) grown(ctx context.Context, p picture, id holdfast.VolumeID, blocks uint64, do func() error) error {
	more := max(0, int64(blocks)*holdfast.BlockSize-p.sizeOf(id))
	return s.resized(ctx, s.countedAs(p, id), func(x account.Share) account.Share { x.Bytes += more; return x }, do)
}

// parted gives a disk that was taken from a VM to the VM's project.
func (s *Server) parted(ctx context.Context, vm holdfast.VMID, d cluster.Volume) error {
	if s.o.Accounts == nil || tried(ctx) {
		return nil
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	project := a.Owner(ownedVM(vm))
	if project == account.DefaultProject || a.Owner(ownedVolume(d.ID)) != account.DefaultProject {
		return nil
	}
	n := int64(d.Blocks) * holdfast.BlockSize
	if err := a.Resize(ownedVM(vm), func(x account.Share) account.Share { x.Bytes = max(0, x.Bytes-n); return x }); err != nil {
		return err
	}
	return a.Assign(ownedVolume(d.ID), project, account.Share{Bytes: n})
}

// countedAs is what a volume counts for: itself, or a VM that it was made with.
func (s *Server) countedAs(p picture, id holdfast.VolumeID) string {
	a, err := s.accounts()
	if err != nil || a.Owner(ownedVolume(id)) != account.DefaultProject {
		return ownedVolume(id)
	}
	for _, v := range p.VMs {
		if slices.Contains(disksOf(v.Val), id) {
			return ownedVM(v.Val.ID)
		}
	}
	return ownedVolume(id)
}
