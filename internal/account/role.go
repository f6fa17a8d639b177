package account

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// Role is what somebody is to the cluster or to a project.
type Role string

// The roles, each with what those before it may, and more.
const (
	Viewer       Role = "viewer"        // looks
	Operator     Role = "operator"      // runs what is there: starts, stops, consoles, snapshots, drains
	TenantAdmin  Role = "tenant-admin"  // everything of one project, its users and tokens too
	ClusterAdmin Role = "cluster-admin" // everything
)

// Roles returns the roles, the weakest first.
func Roles() []Role { return []Role{Viewer, Operator, TenantAdmin, ClusterAdmin} }

// rank is where a role stands among the others; -1: it is none.
func (r Role) rank() int { return slices.Index(Roles(), r) }

// Check refuses what is no role.
func (r Role) Check() error {
	if r.rank() < 0 {
		return holdfast.Errorf(holdfast.Invalid, "there is no role %.40q: viewer, operator, tenant-admin and cluster-admin are the roles", string(r))
	}
	return nil
}

// Scope is what an operation is about.
type Scope string

// The scopes.
const (
	Public   Scope = "public"   // nobody is asked who they are
	Own      Scope = "own"      // the caller's own session
	Tenant   Scope = "tenant"   // VMs, volumes and what belongs to them, of the caller's project
	Accounts Scope = "accounts" // users, tokens and sessions of the caller's project
	Site     Scope = "site"     // hosts, racks, disks, pools, incidents: what all share
	Cluster  Scope = "cluster"  // membership, keys, the control plane, projects, audit
)

// Verb is what is done there.
type Verb string

// The verbs.
const (
	Read    Verb = "read"
	Operate Verb = "operate" // what is there goes on existing as it was made
	Change  Verb = "change"  // makes, alters, deletes
)

// Need is what an operation asks of its caller.
type Need struct {
	Scope Scope
	Verb  Verb
}

// may is the whole of what roles mean.
func may(r Role) map[Scope][]Verb {
	switch r {
	case Viewer:
		return map[Scope][]Verb{Own: {Read, Operate, Change}, Tenant: {Read}, Site: {Read}}
	case Operator:
		return map[Scope][]Verb{Own: {Read, Operate, Change}, Tenant: {Read, Operate}, Site: {Read, Operate}}
	case TenantAdmin:
		return map[Scope][]Verb{Own: {Read, Operate, Change}, Tenant: {Read, Operate, Change}, Accounts: {Read, Operate, Change}}
	case ClusterAdmin:
		all := []Verb{Read, Operate, Change}
		return map[Scope][]Verb{Own: all, Tenant: all, Accounts: all, Site: all, Cluster: all}
	}
	return nil
}

// May reports whether a principal has what an operation needs. What all share is
// not for those who belong to a project.
func (p *Principal) May(n Need) bool {
	if n.Scope == Public {
		return true
	}
	if p == nil || p.Project != "" && (n.Scope == Site || n.Scope == Cluster) {
		return false
	}
	return slices.Contains(may(p.Role)[n.Scope], n.Verb)
}

// CheckPlace refuses a role that does not go with a project, "" being the whole
// cluster.
func CheckPlace(r Role, project string) error {
	if err := r.Check(); err != nil {
		return err
	}
	switch {
	case r == ClusterAdmin && project != "":
		return holdfast.Errorf(holdfast.Invalid, "a cluster admin belongs to no project; leave the project out, or make it a tenant admin of %s", project)
	case r == TenantAdmin && project == "":
		return holdfast.Errorf(holdfast.Invalid, "a tenant admin is one of a project: say of which")
	case project == DefaultProject:
		return holdfast.Errorf(holdfast.Invalid, "the project %s is that of those who belong to none; leave the project out", DefaultProject)
	case project != "":
		return holdfast.CheckName("project", project)
	}
	return nil
}

// Within reports whether a role in a project is no more than another.
func Within(r Role, project string, of Role, ofProject string) bool {
	return r.rank() <= of.rank() && (ofProject == "" || ofProject == project)
}
