package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// ofQuota is what there is of what there may be.
func ofQuota(used, quota any, none bool) string {
	if none {
		return fmt.Sprint(used)
	}
	return fmt.Sprintf("%v of %v", used, quota)
}

func projects() resource[v1.Project] {
	return resource[v1.Project]{noun: "project", many: "the projects, with what they have of their quotas", name: func(p v1.Project) string { return p.Name },
		all: (*client.Client).Projects, one: (*client.Client).Project, cols: []column[v1.Project]{
			{"NAME", false, func(p v1.Project) any { return p.Name }},
			{"VMS", false, func(p v1.Project) any { return ofQuota(p.Used.VMs, p.Quota.VMs, p.Quota.VMs == 0) }},
			{"CPUS", false, func(p v1.Project) any { return ofQuota(p.Used.CPUs, p.Quota.CPUs, p.Quota.CPUs == 0) }},
			{"MEMORY", false, func(p v1.Project) any {
				return ofQuota(formatSize(p.Used.MemoryMiB<<20), formatSize(p.Quota.MemoryMiB<<20), p.Quota.MemoryMiB == 0)
			}},
			{"STORAGE", false, func(p v1.Project) any {
				return ofQuota(formatSize(p.Used.Bytes), formatSize(p.Quota.Bytes), p.Quota.Bytes == 0)
			}},
			{"CREATED", true, func(p v1.Project) any { return p.Created }},
		}}
}

func (a *app) projectCmd() *cobra.Command {
	c := noun("project", "Tenants, and what they may have", listCmd(a, projects()), showCmd(a, projects(), "red"), a.projectCreateCmd(), a.projectSetCmd(), a.projectDeleteCmd(), a.projectAssignCmd())
	c.Long = `Users and tokens of a project see its VMs and volumes and those images that
belong to no project, and nothing else. Who belongs to no project, which is
called default, has the whole cluster.`
	return c
}

// quotaFlags are what a project may have; what is not given is not limited.
type quotaFlags struct {
	vms, cpus       int64
	memory, storage sizeFlag
}

func (f *quotaFlags) add(c *cobra.Command) {
	c.Flags().Int64Var(&f.vms, "vms", 0, "how many VMs it may have; 0: no limit")
	c.Flags().Int64Var(&f.cpus, "cpus", 0, "how many CPUs its VMs may have")
	c.Flags().Var(&f.memory, "memory", "how much memory its VMs may have")
	c.Flags().Var(&f.storage, "storage", "how large its volumes may be together")
}

func (f *quotaFlags) share() v1.Share {
	return v1.Share{VMs: f.vms, CPUs: f.cpus, MemoryMiB: int64(f.memory) >> 20, Bytes: int64(f.storage)}
}

func (a *app) projectCreateCmd() *cobra.Command {
	var q quotaFlags
	c := &cobra.Command{Use: "create PROJECT", Short: "Make a project", Args: args("PROJECT"),
		Example: "  holdfast project create red --vms 10 --cpus 20 --memory 64GiB --storage 1TiB\n  holdfast user add tom --role tenant-admin --project red",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.CreateProject(ctx, v1.ProjectSpec{Name: args[0], Quota: q.share()})
			return printed(a, p, err, projects().cols, projects().name)
		})}
	q.add(c)
	return c
}

func (a *app) projectSetCmd() *cobra.Command {
	var q quotaFlags
	c := &cobra.Command{Use: "set PROJECT", Short: "Change a project's quota; what is not given stays", Args: args("PROJECT"),
		Example: "  holdfast project set red --vms 20 --storage 2TiB\n  holdfast project set red --memory 0    # no limit"}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, args []string) error {
		if c.Flags().NFlag() == 0 {
			return usageError{errors.New("nothing is to be changed; see 'holdfast project set --help'")}
		}
		p, err := q.set(ctx, cl, args[0], c.Flags().Changed)
		return printed(a, p, err, projects().cols, projects().name)
	})
	q.add(c)
	return c
}

// setTries is how often a quota is looked at anew that somebody else changes, too.
const setTries = 5

// set changes what was given of a quota, and keeps the rest as it is at that moment.
func (f *quotaFlags) set(ctx context.Context, c *client.Client, name string, given func(string) bool) (p v1.Project, err error) {
	for range setTries {
		var tag string
		if p, err = c.Project(client.WithTag(ctx, &tag), name); err != nil {
			return p, err
		}
		q, new := p.Quota, f.share()
		for flag, x := range map[string]struct {
			at *int64
			to int64
		}{"vms": {&q.VMs, new.VMs}, "cpus": {&q.CPUs, new.CPUs}, "memory": {&q.MemoryMiB, new.MemoryMiB}, "storage": {&q.Bytes, new.Bytes}} {
			if given(flag) {
				*x.at = x.to
			}
		}
		p, err = c.SetProject(client.IfMatch(ctx, tag), name, v1.ProjectChange{Quota: q})
		if !holdfast.IsKind(err, holdfast.Conflict) {
			break
		}
	}
	return p, err
}

func (a *app) projectDeleteCmd() *cobra.Command {
	return &cobra.Command{Use: "delete PROJECT", Short: "Delete a project that has no users, VMs or volumes any more", Args: args("PROJECT"),
		Example: "  holdfast project delete red",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if err := c.DeleteProject(ctx, args[0]); err != nil {
				return err
			}
			return a.done("project", args[0], "Project "+args[0]+" is deleted.")
		})}
}

func (a *app) projectAssignCmd() *cobra.Command {
	var s v1.ProjectAssign
	c := &cobra.Command{Use: "assign PROJECT --vm VM|--volume VOLUME", Short: "Give a VM or a volume that is there to a project", Args: args("PROJECT"),
		Example: "  holdfast project assign red --vm db1\n  holdfast project assign default --volume data",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if (s.VM == "") == (s.Volume == "") {
				return usageError{errors.New("give either --vm or --volume; see 'holdfast project assign --help'")}
			}
			if err := c.Assign(ctx, args[0], s); err != nil {
				return err
			}
			return a.done("project", args[0], s.VM+s.Volume+" belongs to project "+args[0]+".")
		})}
	c.Flags().StringVar(&s.VM, "vm", "", "`name` of the VM")
	c.Flags().StringVar(&s.Volume, "volume", "", "`name` of the volume, or of an image")
	return c
}
