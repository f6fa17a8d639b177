package httpapi

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// ProjectRef names a project in a path.
type ProjectRef struct {
	Project string `path:"project" maxLength:"63"`
}

func (s *Server) projectRoutes() {
	withAccounts(s, "GET", "/v1/projects", "project-list", "The caller's project, or all", 200,
		func(_ context.Context, a *account.Store, who *account.Principal, _ *none) ([]v1.Project, error) {
			all := slices.DeleteFunc(a.Projects(), func(p account.Project) bool { return who.Project != "" && p.Name != who.Project })
			return render(all, func(p account.Project) v1.Project { return renderProject(a, p) }), nil
		})
	withAccounts(s, "GET", "/v1/projects/{project}", "project-show", "One project, with its quota and what it has of it", 200,
		func(_ context.Context, a *account.Store, who *account.Principal, in *ProjectRef) (v1.Project, error) {
			if who.Project != "" && who.Project != in.Project {
				return v1.Project{}, account.NoProject(in.Project)
			}
			p, err := a.Project(in.Project)
			return renderProject(a, p), err
		})
	withAccounts(s, "POST", "/v1/projects", "project-create", "Make a project", 201,
		func(_ context.Context, a *account.Store, _ *account.Principal, in *request[v1.ProjectSpec]) (v1.Project, error) {
			return setProject(a, in.Body.Name, in.Body.Quota, true)
		})
	withAccounts(s, "PATCH", "/v1/projects/{project}", "project-set", "Change a project's quota", 200,
		func(_ context.Context, a *account.Store, _ *account.Principal, in *struct {
			ProjectRef
			Body v1.ProjectChange
		}) (v1.Project, error) {
			return setProject(a, in.Project, in.Body.Quota, false)
		})
	do(s, s.operation("DELETE", "/v1/projects/{project}", "project-delete", "Delete a project that has nothing any more", 204),
		func(ctx context.Context, in *ProjectRef) error {
			a, err := s.accounts()
			if err != nil {
				return err
			}
			st, err := s.o.Backend.State(ctx)
			if err != nil {
				return err
			}
			return a.DeleteProject(in.Project, there(st))
		})
	do(s, s.operation("POST", "/v1/projects/{project}/assign", "project-assign", "Give a VM or a volume to a project; to the project default: take it from all", 204),
		func(ctx context.Context, in *struct {
			ProjectRef
			Body v1.ProjectAssign
		}) error {
			return s.assign(ctx, in.Project, in.Body)
		})
}

func setProject(a *account.Store, name string, q v1.Share, create bool) (v1.Project, error) {
	if err := a.SetProject(name, account.Share(q), create); err != nil {
		return v1.Project{}, err
	}
	p, err := a.Project(name)
	return renderProject(a, p), err
}

func renderProject(a *account.Store, p account.Project) v1.Project {
	return v1.Project{Name: p.Name, Quota: v1.Share(p.Quota), Used: v1.Share(a.Used(p.Name)), Created: p.Created}
}

func (s *Server) assign(ctx context.Context, project string, b v1.ProjectAssign) error {
	a, err := s.accounts()
	if err != nil {
		return err
	}
	p, err := s.picture(ctx)
	switch {
	case err != nil:
		return err
	case (b.VM == "") == (b.Volume == ""):
		return holdfast.Errorf(holdfast.Invalid, "give either a VM or a volume")
	case b.VM != "":
		v, err := p.vm(b.VM)
		if err != nil {
			return err
		}
		return a.Assign(ownedVM(v.ID), project, account.Share{VMs: 1, CPUs: int64(v.CPUs), MemoryMiB: int64(v.MemoryMiB), Bytes: p.sizeOf(disksOf(v)...)})
	}
	v, err := p.volume(b.Volume)
	if err != nil {
		if v, err = p.image(b.Volume); err != nil {
			return err
		}
	}
	if !v.VM.IsZero() {
		return holdfast.Errorf(holdfast.Conflict, "volume %s is a disk of a VM and goes with that", v.Name)
	}
	return a.Assign(ownedVolume(v.ID), project, account.Share{Bytes: p.sizeOf(v.ID)})
}
