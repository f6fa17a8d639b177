package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A request that changes something may be tried, with the query dryRun=true: all is
// checked, placed and answered as it would be, on a draft of the records, and nothing
// is written anywhere.

const (
	dryParam  = "dryRun"
	dryHeader = "Dry-Run" // of the answer to what was only tried
)

// dryRuns are the operations that can be tried. What their handlers change goes by
// way of changer and by nothing else, or is not done at all if it is only tried.
func dryRuns() []string {
	return []string{"vm-create", "vm-set", "vm-delete", "vm-disk-add", "vm-disk-remove", "vm-disk-resize",
		"volume-create", "volume-delete", "volume-grow", "volume-revert", "image-delete", "pool-create", "pool-delete",
		"snapshot-delete", "snapshot-group-delete", "vm-snapshot-delete", "vm-snapshot-revert",
		"export-create", "export-delete", "export-allow", "export-deny",
		"backup-schedule-create", "backup-schedule-set", "backup-schedule-delete", "backup-schedule-run",
		"host-drain", "host-remove", "rack-remove", "disk-add", "disk-evacuate", "disk-remove", "disk-replace",
		"alert-receiver-create", "alert-receiver-set", "alert-receiver-delete", "oidc-set", "pages-set", "pages-site-set", "pages-site-delete"}
}

// Changer is what can be tried of a Backend, and the picture that comes of it. Its
// methods are those of Backend.
type Changer interface {
	State(ctx context.Context) (*cluster.State, error)
	CreateVolume(ctx context.Context, v NewVolume) (cluster.Volume, error)
	DeleteVolume(ctx context.Context, id holdfast.VolumeID, erase bool) error
	GrowVolume(ctx context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error)
	DeleteSnapshot(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error
	Revert(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error
	DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error
	CreateVM(ctx context.Context, n NewVM) (cluster.VM, error)
	ChangeVM(ctx context.Context, id holdfast.VMID, c cluster.VMChange) error
	DeleteVM(ctx context.Context, id holdfast.VMID, r cluster.VMRemoval) error
	AddVMDisk(ctx context.Context, id holdfast.VMID, d NewVMDisk) error
	RemoveVMDisk(ctx context.Context, id holdfast.VMID, volume holdfast.VolumeID) error
	DeleteVMSnapshot(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot) error
	RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how Revert) (safety string, err error)
	CreatePool(ctx context.Context, p cluster.Pool) (cluster.Pool, error)
	DeletePool(ctx context.Context, id holdfast.PoolID) error
	CreateExport(ctx context.Context, name string, units []cluster.Unit) (cluster.Export, error)
	DeleteExport(ctx context.Context, id holdfast.ExportID) error
	AllowInitiator(ctx context.Context, id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error)
	DenyInitiator(ctx context.Context, id holdfast.ExportID, name string) (cluster.Export, error)
	Schedules
	AddDisk(ctx context.Context, d NewDisk) (cluster.Disk, error)
	ReplaceDisk(ctx context.Context, id holdfast.DiskID, d NewDisk) (cluster.Disk, error)
	EvacuateDisk(ctx context.Context, id holdfast.DiskID, on, remove bool) error
	Drain(ctx context.Context, id holdfast.HostID, on bool, guestSeconds int) error
	RemoveHosts(ctx context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error
}

// Rehearser tries changes.
type Rehearser interface {
	// Rehearse returns what changes a draft of the records and nothing else, until end.
	Rehearse(ctx context.Context) (c Changer, end func(), err error)
}

type dryKey struct{}

// changer is what a request changes things with.
func (s *Server) changer(ctx context.Context) Changer {
	if c, ok := ctx.Value(dryKey{}).(Changer); ok {
		return c
	}
	return s.o.Backend
}

// tried reports whether a request is only tried.
func tried(ctx context.Context) bool { return ctx.Value(dryKey{}) != nil }

// dryRun lets requests be tried.
func (s *Server) dryRun(next http.Handler) http.Handler {
	can := map[string]bool{}
	for _, op := range dryRuns() {
		can[op] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !changes(r.Method) || !strings.Contains(r.URL.RawQuery, dryParam) || !r.URL.Query().Has(dryParam) {
			next.ServeHTTP(w, r)
			return
		}
		q := r.URL.Query()
		said := q[dryParam]
		q.Del(dryParam)
		u := *r.URL
		u.RawQuery = q.Encode()
		r = r.Clone(r.Context())
		r.URL, r.RequestURI = &u, u.RequestURI()
		op, _ := s.operationAt(s.router, r)
		switch {
		case len(said) != 1 || said[0] != "true" && said[0] != "false":
			writeProblem(w, mistake("query."+dryParam, "true or false is expected, once"))
		case said[0] == "false":
			next.ServeHTTP(w, r)
		case op != "" && !can[op]:
			writeProblem(w, mistake("query."+dryParam, fmt.Sprintf("%s cannot be tried without being done; GET /v1/features lists what can", op)))
		default:
			s.try(w, r, next)
		}
	})
}

// try runs a request on a draft.
func (s *Server) try(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del(keyHeader) // nothing is done that could be done twice
	c, end, err := s.o.Backend.Rehearse(r.Context())
	if err != nil {
		writeProblem(w, err)
		return
	}
	defer end()
	w.Header().Set(dryHeader, "true")
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), dryKey{}, c)))
}

// describeDryRuns adds the parameter to what can be tried.
func (s *Server) describeDryRuns() {
	for _, item := range s.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Post, item.Patch, item.Delete, item.Put} {
			if op != nil && slices.Contains(dryRuns(), op.OperationID) {
				op.Parameters = append(op.Parameters, &huma.Param{Name: dryParam, In: "query",
					Description: "Only try it: all is checked, placed and answered as it would be, and nothing is written", Schema: &huma.Schema{Type: "boolean"}})
			}
		}
	}
}

// features are the names of what this host's API has, beyond what it has always had.
func features() map[string]string {
	return map[string]string{
		"dry-run":         "requests are tried with dryRun=true: " + strings.Join(dryRuns(), ", "),
		"idempotency-key": "what makes something takes the header Idempotency-Key",
		"if-match":        "what changes something takes the header If-Match",
		"etag":            "answers have tags, and are not sent again to who has them (If-None-Match)",
		"pages":           "lists take limit, cursor, filter and fields",
		"tasks":           "what takes long is a task: /v1/tasks, with cancel and wait",
		"image-fetch":     "hosts get images by URL: /v1/image-imports",
		"upgrade":         "hosts are sent another program and become it: /v1/upgrade, /v1/hosts/{host}/program",
		"watch":           "a stream of everything that changes: /v1/watch",
		"projects":        "projects with quotas own VMs and volumes",
		"alerts":          "people outside of the cluster are told what is wrong: /v1/alert-receivers",
		"audit":           "a hash-chained record of who did what: /v1/audit",
	}
}

func (s *Server) featureRoutes() {
	act(s, s.operation("GET", "/v1/features", "features", "What this host's API can do; names are added and never taken away", 200),
		func(context.Context, *none) ([]v1.Feature, error) {
			all := features()
			if s.o.Backend.Self().Simulated {
				all["simulated"] = "no host, VM or volume of this cluster exists: it is one of 'holdfast sim --serve'"
			}
			out := make([]v1.Feature, 0, len(all))
			for _, name := range slices.Sorted(maps.Keys(all)) {
				out = append(out, v1.Feature{Name: name, What: all[name]})
			}
			return out, nil
		})
}
