package httpapi

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// find returns the one record that ref names, by name or by identity. Records
// that are being deleted are found by identity only.
func find[T any](what, ref string, all []T, id func(T) holdfast.UUID, name func(T) string, gone func(T) bool) (T, error) {
	var zero T
	if u, err := holdfast.ParseUUID(ref); err == nil {
		for _, r := range all {
			if id(r) == u {
				return r, nil
			}
		}
		return zero, notFound(what, ref, nil)
	}
	var names []string
	for _, r := range all {
		if gone(r) {
			continue
		}
		if name(r) == ref {
			return r, nil
		}
		names = append(names, name(r))
	}
	return zero, notFound(what, ref, names)
}

func notFound(what, ref string, names []string) error {
	hint := "see 'holdfast " + strings.ToLower(what) + " list'"
	if noun, vm, ok := strings.Cut(what, " of VM "); ok {
		hint = "see 'holdfast vm " + noun + " list " + vm + "'"
	} else if noun, of, ok := strings.Cut(what, " of "); ok {
		hint = "see 'holdfast volume " + noun + " list " + of + "'"
	}
	if near := nearest.Of(ref, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return holdfast.Errorf(holdfast.NotFound, "no %s is called %q: %s", what, clip(ref), hint)
}

func clip(s string) string {
	if len(s) > 70 {
		return s[:67] + "..."
	}
	return s
}

func (p picture) host(ref string) (cluster.Host, error) {
	return find("host", ref, p.hosts(),
		func(h cluster.Host) holdfast.UUID { return h.ID.UUID },
		func(h cluster.Host) string { return h.Name },
		func(cluster.Host) bool { return false })
}

func (p picture) disk(ref string) (cluster.Disk, error) {
	return find("disk", ref, p.disks(),
		func(d cluster.Disk) holdfast.UUID { return d.ID.UUID },
		func(d cluster.Disk) string { return p.hostName(d.Host) + ":" + d.Path },
		func(cluster.Disk) bool { return false })
}

// volume finds a volume that is not an image; image one that is.
func (p picture) volume(ref string) (cluster.Volume, error) {
	return p.anyVolume("volume", ref, func(v cluster.Volume) bool { return !v.Image })
}

func (p picture) image(ref string) (cluster.Volume, error) {
	return p.anyVolume("image", ref, func(v cluster.Volume) bool { return v.Image })
}

func (p picture) anyVolume(what, ref string, ok func(cluster.Volume) bool) (cluster.Volume, error) {
	all := slices.DeleteFunc(p.volumes(), func(v cluster.Volume) bool { return !ok(v) })
	return find(what, ref, all,
		func(v cluster.Volume) holdfast.UUID { return v.ID.UUID },
		func(v cluster.Volume) string { return v.Name },
		func(v cluster.Volume) bool { return v.Deleted })
}

func (p picture) vm(ref string) (cluster.VM, error) {
	return find("VM", ref, p.vms(),
		func(v cluster.VM) holdfast.UUID { return v.ID.UUID },
		func(v cluster.VM) string { return v.Name },
		func(v cluster.VM) bool { return v.Deleted })
}

func (p picture) export(ref string) (cluster.Export, error) {
	return find("export", ref, p.exports(),
		func(e cluster.Export) holdfast.UUID { return e.ID.UUID },
		func(e cluster.Export) string { return e.Name },
		func(cluster.Export) bool { return false })
}

func snapshot(v cluster.Volume, ref string) (cluster.Snapshot, error) {
	return find("snapshot of "+v.Name, ref, v.Snapshots,
		func(s cluster.Snapshot) holdfast.UUID { return s.ID.UUID },
		func(s cluster.Snapshot) string { return s.Name },
		func(s cluster.Snapshot) bool { return s.Hidden })
}

func (p picture) incident(ref string) (cluster.Incident, error) {
	var ids []string
	for _, i := range p.incidents() {
		if i.ID == ref {
			return i, nil
		}
		ids = append(ids, i.ID)
	}
	return cluster.Incident{}, notFound("incident", ref, ids)
}
