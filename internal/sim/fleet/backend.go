package fleet

import (
	"context"
	"crypto/rand"
	"runtime"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/draft"
	"github.com/holdfast-cloud/holdfast/internal/serve"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
)

var _ httpapi.Backend = (*Fleet)(nil)

// Self implements httpapi.Reader.
func (f *Fleet) Self() httpapi.Self {
	return httpapi.Self{ID: f.self.ID, Name: f.self.Name, Domain: f.self.Domain, Version: f.o.Version, InCluster: true, LeadsKV: true,
		Accelerator: "kvm", Why: "simulated", Sandbox: "full", Simulated: true}
}

// State implements httpapi.Reader.
func (f *Fleet) State(context.Context) (*cluster.State, error) { return f.Records.State(), nil }

// AwaitChange implements httpapi.Reader.
func (f *Fleet) AwaitChange(after kv.Rev, most time.Duration) { f.Records.WaitRev(after+1, most) }

// Report implements httpapi.Reader.
func (f *Fleet) Report(context.Context) (httpapi.Report, error) { return httpapi.Report{}, nil }

// Diagnose implements httpapi.Reader: there is one process.
func (f *Fleet) Diagnose(context.Context, bool) (v1.Diagnoses, error) {
	return v1.Diagnoses{Hosts: []v1.Diagnosis{{Host: f.self.Name, Version: f.o.Version, Go: runtime.Version(), Processors: runtime.NumCPU(),
		Started: f.plan.now, Now: time.Now(), Tasks: runtime.NumGoroutine(), Config: "# simulated\n"}}}, nil
}

// Activity implements httpapi.Reader.
func (f *Fleet) Activity(_ context.Context, id holdfast.VolumeID) (v1.Activity, error) {
	st := f.Records.State()
	v, ok := st.Volumes[id]
	if !ok || !st.AliveHost(v.Val.Writer) {
		return v1.Activity{}, holdfast.Errorf(holdfast.NotFound, "no host has the volume open")
	}
	up := int64(time.Since(f.plan.now) / time.Second)
	n := int64(id.UUID[0]) + 1
	return v1.Activity{Host: st.Hosts[v.Val.Writer].Val.Name, Epoch: uint32(v.Val.Epoch), ReadBytes: up * n << 12, WrittenBytes: up * n << 11, Flushes: up * n / 8}, nil
}

// Measure implements httpapi.Reader.
func (f *Fleet) Measure(to *telemetry.Samples) { to.Truth("holdfast_host_lease_valid", true) }

// Integrity implements httpapi.Reader: everything was found good within a week.
func (f *Fleet) Integrity(context.Context, bool) (v1.Integrity, error) {
	st := f.Records.State()
	out := v1.Integrity{Disks: []v1.DiskIntegrity{}, Replicas: []v1.ReplicaIntegrity{}}
	week := func(u holdfast.UUID) *time.Time {
		at := f.plan.now.Add(-time.Duration(u[0])*40*time.Minute - time.Hour)
		return &at
	}
	for _, d := range st.SortedDisks() {
		at := week(d.Val.ID.UUID)
		next := at.AddDate(0, 0, 8)
		out.Disks = append(out.Disks, v1.DiskIntegrity{Disk: d.Val.ID.String(), Host: st.Hosts[d.Val.Host].Val.Name, Scrubbed: at, Next: &next})
	}
	for _, v := range st.SortedVolumes() {
		for _, r := range v.Val.InSync {
			out.Replicas = append(out.Replicas, v1.ReplicaIntegrity{Replica: r.ID.String(), Volume: v.Val.Name, Host: st.Hosts[r.Host].Val.Name,
				Disk: r.Disk.String(), Proved: week(r.Disk.UUID), Faults: []v1.Fault{}})
		}
	}
	return out, nil
}

// KVReady implements httpapi.Mover.
func (f *Fleet) KVReady(context.Context) v1.KVReady {
	return v1.KVReady{Endpoints: []string{}, Error: needs(noRing).Error()}
}

// Recovery implements httpapi.Recoverer: there was none.
func (f *Fleet) Recovery(context.Context) (v1.Recovery, error) {
	return v1.Recovery{State: "none", Cluster: f.plan.cluster.Name, Host: f.self.Name, Stay: []string{}, Shut: []v1.RecoveryHost{}, Volumes: []v1.RecoveryVolume{}, VMs: []string{}}, nil
}

// JoinCodes implements httpapi.Members.
func (f *Fleet) JoinCodes(context.Context) ([]cluster.JoinCode, error) { return f.Records.JoinCodes() }

// RevokeJoinCode implements httpapi.Members.
func (f *Fleet) RevokeJoinCode(_ context.Context, hash string) error {
	return f.Records.RevokeJoinCode(hash)
}

// Rehearse implements httpapi.Rehearser.
func (f *Fleet) Rehearse(context.Context) (httpapi.Changer, func(), error) {
	d, err := draft.Of(f.kv, "holdfast/", clock.System{})
	if err != nil {
		return nil, nil, err
	}
	c := cluster.Open(d, clock.System{}, f.log)
	end := func() {
		c.Close()
		_ = d.Close() // it is in memory
	}
	if _, err := c.Refresh(); err != nil {
		end()
		return nil, nil, err
	}
	return &trial{serve.NewTrial(serve.NewDeeds(c, f.self.ID, f.plan.alive[0].Boot, keyring.NewRing(), f.log))}, end, nil
}

func newUUID() (holdfast.UUID, error) { return holdfast.NewUUID(rand.Reader) }
