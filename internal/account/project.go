package account

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// DefaultProject is where everything belongs that was given to no other. It has
// no quota and no users: who belongs to no project works in it.
const DefaultProject = "default"

// Bounds of projects.
const (
	MaxProjects = 256
	heldFor     = 24 * time.Hour // what is reserved and never used
	pruneAfter  = time.Hour      // what is gone is forgotten
	maxOwned    = 64             // forgotten at once
	maxShare    = int64(1) << 62 // of anything
)

// Share is an amount of what projects have quotas of. In a quota 0 is no limit.
type Share struct {
	VMs       int64 `json:"vms,omitempty"`
	CPUs      int64 `json:"cpus,omitempty"`
	MemoryMiB int64 `json:"memory_mib,omitempty"`
	Bytes     int64 `json:"bytes,omitempty"` // of volumes, as their guests see them: once, however many copies
}

func (s Share) plus(o Share) Share {
	return Share{s.VMs + o.VMs, s.CPUs + o.CPUs, s.MemoryMiB + o.MemoryMiB, s.Bytes + o.Bytes}
}

// Project is a tenant.
type Project struct {
	Name    string    `json:"name"`
	Quota   Share     `json:"quota,omitzero"`
	Created time.Time `json:"created"`
	Turn    int64     `json:"turn,omitempty"` // rises with each admission, so that none is decided beside another
}

// Owned says that a VM or a volume belongs to a project, and what it counts for.
type Owned struct {
	ID      string     `json:"id"` // vm-UUID, volume-UUID; held-… of what is still being made
	Project string     `json:"project"`
	Share   Share      `json:"share,omitzero"`
	Since   time.Time  `json:"since"`
	Lease   kv.LeaseID `json:"lease,omitempty"`
}

func projectKind() kind[Project] {
	return kind[Project]{dirProject, func(p *Project) string { return p.Name }, checkProject}
}

func ownedKind() kind[Owned] {
	return kind[Owned]{dirOwned, func(o *Owned) string { return o.ID }, checkOwned}
}

func checkProject(p *Project) error {
	if err := holdfast.CheckName("project", p.Name); err != nil {
		return err
	}
	if p.Name == DefaultProject {
		return holdfast.Errorf(holdfast.Invalid, "the project %s is there by itself and cannot be changed", DefaultProject)
	}
	return checkShare(p.Quota)
}

func checkShare(s Share) error {
	for _, n := range []int64{s.VMs, s.CPUs, s.MemoryMiB, s.Bytes} {
		if n < 0 || n > maxShare {
			return holdfast.Errorf(holdfast.Invalid, "%d is no amount of anything", n)
		}
	}
	return nil
}

func checkOwned(o *Owned) error {
	if len(o.ID) == 0 || len(o.ID) > maxNote || strings.Trim(o.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return holdfast.Errorf(holdfast.Invalid, "%.40q is nothing that a project could own", o.ID)
	}
	if err := holdfast.CheckName("project", o.Project); err != nil {
		return err
	}
	return checkShare(o.Share)
}

// Projects returns the projects by name, without the default one.
func (s *Store) Projects() []Project {
	var out []Project
	for _, x := range s.picture().projects {
		out = append(out, x.val)
	}
	slices.SortFunc(out, func(a, b Project) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Project returns one. Kind NotFound.
func (s *Store) Project(name string) (Project, error) {
	p, ok := s.picture().projects[name]
	if !ok {
		return Project{}, NoProject(name)
	}
	return p.val, nil
}

// NoProject is the error of a project that is not there. Kind NotFound.
func NoProject(name string) error {
	return holdfast.Errorf(holdfast.NotFound, "there is no project %.70q; see 'holdfast project list'", name)
}

// Used is what a project has, and has reserved.
func (s *Store) Used(project string) Share { return s.picture().used(project) }

func (p *picture) used(project string) (sum Share) {
	for _, o := range p.owned {
		if o.val.Project == project {
			sum = sum.plus(o.val.Share)
		}
	}
	return sum
}

// Owner returns the project of what has that identity (vm-…, volume-…); the
// default one if it was given to no other.
func (s *Store) Owner(id string) string {
	if o, ok := s.picture().owned[id]; ok {
		return o.val.Project
	}
	return DefaultProject
}

// SetProject makes a project, or changes its quota. What it has already stays.
func (s *Store) SetProject(name string, quota Share, create bool) error {
	return s.change(func(p *picture, t *txn) error {
		rec, there := p.projects[name]
		switch {
		case create && there:
			return holdfast.Errorf(holdfast.Exists, "a project named %s exists; choose another name", name)
		case !create && !there:
			return NoProject(name)
		case create && len(p.projects) >= MaxProjects:
			return holdfast.Errorf(holdfast.Conflict, "there are %d projects, as many as there may be", len(p.projects))
		case create:
			rec.val = Project{Name: name, Created: s.cfg.Clock.Wall().UTC()}
		}
		rec.val.Quota = quota
		return putIn(t, projectKind(), rec.val, rec.mod, 0)
	})
}

// DeleteProject deletes a project. Conflict while it has users, tokens, VMs or
// volumes; there says whether what a record names still is.
func (s *Store) DeleteProject(name string, there func(id string) bool) error {
	return s.change(func(p *picture, t *txn) error {
		rec, ok := p.projects[name]
		if !ok {
			return NoProject(name)
		}
		for _, u := range p.users {
			if u.val.Project == name {
				return holdfast.Errorf(holdfast.Conflict, "user %s belongs to project %s", u.val.Name, name)
			}
		}
		for _, r := range p.oidc.val.Rules {
			if r.Project == name {
				return holdfast.Errorf(holdfast.Conflict, "a rule of OpenID Connect names project %s; see 'holdfast oidc show'", name)
			}
		}
		for _, k := range p.tokens {
			if k.val.Project == name {
				return holdfast.Errorf(holdfast.Conflict, "token %s belongs to project %s", k.val.Name, name)
			}
		}
		for _, id := range sortedKeys(p.owned) {
			if o := p.owned[id]; o.val.Project == name {
				if there(id) {
					return holdfast.Errorf(holdfast.Conflict, "%s belongs to project %s: delete it, or give it to another project", id, name)
				}
				if t.drop(ownedKind().key(id), o.mod); len(t.ops) >= maxOwned {
					return nil // the rest by asking again
				}
			}
		}
		t.drop(projectKind().key(name), rec.mod)
		return nil
	})
}

// Reserve takes a share of a project's quota for what is about to be made, for at
// most a day. NoSpace: that is more than the project may have. there says whether
// what a record names still is, so that what is gone counts no more.
func (s *Store) Reserve(project string, share Share, there func(id string) bool) (string, error) {
	secret, err := s.secret()
	if err != nil {
		return "", err
	}
	lease, err := s.cfg.KV.Grant(heldFor)
	if err != nil {
		return "", err
	}
	o := Owned{ID: "held-" + hashOf(secret)[:32], Project: project, Share: share, Since: s.cfg.Clock.Wall().UTC(), Lease: lease}
	err = s.admit(project, func(p *picture, t *txn) (Share, error) {
		return p.prune(t, project, s.cfg.Clock.Wall().Add(-pruneAfter), there).plus(share), putIn(t, ownedKind(), o, 0, lease)
	})
	if err != nil {
		_ = s.cfg.KV.Revoke(lease)
	}
	return o.ID, err
}

// admit changes what a project has, if it then has no more than it may, or has
// less than before. more is by how much it grows.
func (s *Store) admit(project string, f func(*picture, *txn) (more Share, err error)) error {
	return s.change(admission(project, f))
}

func admission(project string, f func(*picture, *txn) (more Share, err error)) func(*picture, *txn) error {
	return func(p *picture, t *txn) error {
		rec, ok := p.projects[project]
		if !ok {
			return NoProject(project)
		}
		more, err := f(p, t)
		if err != nil {
			return err
		}
		if err := fits(project, rec.val.Quota, p.used(project), more); err != nil {
			return err
		}
		rec.val.Turn++
		return putIn(t, projectKind(), rec.val, rec.mod, 0)
	}
}

// Fits says whether Reserve would have room, and takes none.
func (s *Store) Fits(project string, share Share, there func(id string) bool) error {
	return s.wouldAdmit(project, func(p *picture, t *txn) (Share, error) {
		return p.prune(t, project, s.cfg.Clock.Wall().Add(-pruneAfter), there).plus(share), nil
	})
}

func (s *Store) wouldAdmit(project string, f func(*picture, *txn) (more Share, err error)) error {
	p, err := s.refresh()
	if err != nil {
		return err
	}
	return admission(project, f)(p, &txn{})
}

func fits(project string, quota, used, more Share) error {
	for _, x := range []struct {
		what              string
		quota, used, more int64
	}{
		{"VMs", quota.VMs, used.VMs, more.VMs}, {"CPUs", quota.CPUs, used.CPUs, more.CPUs},
		{"MiB of memory", quota.MemoryMiB, used.MemoryMiB, more.MemoryMiB}, {"bytes of volumes", quota.Bytes, used.Bytes, more.Bytes},
	} {
		if x.quota > 0 && x.more > 0 && x.used+x.more > x.quota {
			return holdfast.Errorf(holdfast.NoSpace, "project %s may have %d %s, has %d, and this would be %d more", project, x.quota, x.what, x.used, x.more)
		}
	}
	return nil
}

// prune forgets what is gone, and returns what that takes away (below zero).
func (p *picture) prune(t *txn, project string, before time.Time, there func(string) bool) (less Share) {
	n := 0
	for _, id := range sortedKeys(p.owned) {
		o := p.owned[id]
		if o.val.Project != project || o.val.Lease != 0 || o.val.Since.After(before) || there(id) {
			continue
		}
		if n++; n > maxOwned {
			break
		}
		t.drop(ownedKind().key(id), o.mod)
		s := o.val.Share
		less = less.plus(Share{-s.VMs, -s.CPUs, -s.MemoryMiB, -s.Bytes})
	}
	return less
}

// Keep gives what was reserved to what was made; Release gives it back.
func (s *Store) Keep(held, id string) error {
	return s.change(func(p *picture, t *txn) error {
		o, ok := p.owned[held]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "what was reserved for %s is not any more", id)
		}
		t.drop(ownedKind().key(held), o.mod)
		was := p.owned[id]
		o.val.ID, o.val.Lease, o.val.Since = id, 0, s.cfg.Clock.Wall().UTC()
		return putIn(t, ownedKind(), o.val, was.mod, 0)
	})
}

// Release takes something away from its project, or gives back what was reserved.
func (s *Store) Release(id string) error {
	return s.change(func(p *picture, t *txn) error {
		if o, ok := p.owned[id]; ok {
			t.drop(ownedKind().key(id), o.mod)
		}
		return nil
	})
}

// Resize changes what something counts for; what is in no project counts for
// nothing. NoSpace: that is more than its project may have.
func (s *Store) Resize(id string, f func(Share) Share) error {
	project := s.Owner(id)
	if project == DefaultProject {
		return nil
	}
	return s.admit(project, resizing(id, project, f))
}

// FitsResized says whether Resize would have room, and changes nothing.
func (s *Store) FitsResized(id string, f func(Share) Share) error {
	project := s.Owner(id)
	if project == DefaultProject {
		return nil
	}
	return s.wouldAdmit(project, resizing(id, project, f))
}

func resizing(id, project string, f func(Share) Share) func(*picture, *txn) (Share, error) {
	return func(p *picture, t *txn) (Share, error) {
		o, ok := p.owned[id]
		if !ok || o.val.Project != project {
			return Share{}, holdfast.Errorf(holdfast.Conflict, "%s changed its project; try again", id)
		}
		was, is := o.val.Share, f(o.val.Share)
		o.val.Share = is
		return Share{is.VMs - was.VMs, is.CPUs - was.CPUs, is.MemoryMiB - was.MemoryMiB, is.Bytes - was.Bytes}, putIn(t, ownedKind(), o.val, o.mod, 0)
	}
}

// Assign gives something that is there to a project, the default one too.
// NoSpace: that is more than the project may have.
func (s *Store) Assign(id, project string, share Share) error {
	if project == DefaultProject {
		return s.Release(id)
	}
	return s.admit(project, func(p *picture, t *txn) (Share, error) {
		was := p.owned[id]
		if was.val.Project == project {
			share = was.val.Share
			return Share{}, putIn(t, ownedKind(), was.val, was.mod, 0)
		}
		return share, putIn(t, ownedKind(), Owned{ID: id, Project: project, Share: share, Since: s.cfg.Clock.Wall().UTC()}, was.mod, 0)
	})
}
