package serve

import (
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// Measure implements httpapi.Reader.
func (h *Host) Measure(to *telemetry.Samples) {
	m, err := h.member()
	if err != nil {
		return // it waits for somebody to say what it shall do
	}
	st := m.node.Cluster.State()
	to.Truth("holdfast_host_lease_valid", m.node.Lease().Valid())
	for _, vm := range st.VMs {
		if x := m.node.Agent.Machine(vm.Val.ID); x != nil {
			to.Truth("holdfast_vm_up", x.State() == hypervisor.Running, vm.Val.Name)
			h.measureMachine(to, vm.Val)
		}
	}
	for _, s := range m.node.Volumes.Stores() {
		h.measureDisk(to, s, st)
	}
	for _, v := range m.node.Volumes.Volumes() {
		measureVolume(to, v, st)
	}
	for _, c := range m.node.Volumes.Mendings() {
		volume, host := nameOf(st, c.Volume), st.Hosts[c.Host].Val.Name
		to.Add("holdfast_rebuild_done_ratio", c.Done, volume, host)
		to.Add("holdfast_rebuild_rate_bytes_per_second", float64(c.Rate), volume, host)
		to.Truth("holdfast_rebuild_waits", c.Waits, volume, host)
	}
}

// measureMachine tells what a machine has used when it was asked last, a few seconds
// ago: a scrape does not wait for it.
func (h *Host) measureMachine(to *telemetry.Samples, vm cluster.VM) {
	u, ok := h.figures.usageOf(vm.ID)
	if !ok {
		return
	}
	to.Add("holdfast_vm_cpu_seconds_total", u.CPU.Seconds(), vm.Name)
	to.Add("holdfast_vm_memory_bytes", float64(u.Memory), vm.Name)
	if u.Net != nil {
		to.Add("holdfast_vm_network_bytes_total", float64(u.Net.Received), vm.Name, "received")
		to.Add("holdfast_vm_network_bytes_total", float64(u.Net.Sent), vm.Name, "sent")
	}
	var of [3]struct{ n, bytes, secs float64 }
	for _, d := range u.Disks {
		of[0].n, of[0].bytes, of[0].secs = of[0].n+float64(d.Reads), of[0].bytes+float64(d.ReadBytes), of[0].secs+d.ReadTime.Seconds()
		of[1].n, of[1].bytes, of[1].secs = of[1].n+float64(d.Writes), of[1].bytes+float64(d.WrittenBytes), of[1].secs+d.WriteTime.Seconds()
		of[2].n, of[2].secs = of[2].n+float64(d.Flushes), of[2].secs+d.FlushTime.Seconds()
	}
	for i, what := range []string{"read", "write", "flush"} {
		if u.Disks == nil {
			break
		}
		to.Add("holdfast_vm_disk_requests_total", of[i].n, vm.Name, what)
		to.Add("holdfast_vm_disk_request_seconds_total", of[i].secs, vm.Name, what)
		if what != "flush" {
			to.Add("holdfast_vm_disk_bytes_total", of[i].bytes, vm.Name, what)
		}
	}
}

// measureDisk names a disk as people do, by its path on the host.
func (h *Host) measureDisk(to *telemetry.Samples, s *store.Store, st *cluster.State) {
	disk := st.Disks[s.Identity().Disk].Val.Path
	if disk == "" {
		disk = s.Identity().Disk.String()
	}
	u := s.Usage()
	to.Truth("holdfast_disk_up", s.Err() == nil, disk)
	for name, n := range map[string]int64{
		"holdfast_disk_size_bytes": u.Total, "holdfast_disk_usable_bytes": u.Usable, "holdfast_disk_free_bytes": u.Free,
		"holdfast_disk_live_bytes": u.Live, "holdfast_disk_appended_bytes_total": u.Appended, "holdfast_disk_map_memory_bytes": s.MapResident(),
		"holdfast_disk_replicas": int64(len(s.Replicas())), "holdfast_disk_bad_blocks": bad(s),
	} {
		to.Add(name, float64(n), disk)
	}
	for what, n := range map[string]int64{"log": u.Log, "cleaned": u.Cleaned, "map": u.Mapped, "catalog": u.Catalog, "zeroed": u.Zeroed} {
		to.Add("holdfast_disk_written_bytes_total", float64(n), disk, what)
	}
	scrub := s.Scrubbing()
	to.Truth("holdfast_disk_scrub_running", scrub.Running, disk)
	if scrub.Running {
		to.Add("holdfast_disk_scrub_done_bytes", float64(scrub.Done), disk)
		to.Add("holdfast_disk_scrub_left_bytes", float64(max(scrub.Total-scrub.Done, 0)), disk)
	}
	if !scrub.Last.IsZero() {
		to.Add("holdfast_disk_scrubbed_timestamp_seconds", float64(scrub.Last.Unix()), disk)
	}
}

// bad counts the blocks of a disk that are still bad.
func bad(s *store.Store) (n int64) {
	for _, f := range s.Faults() {
		if !f.Repaired && !f.Gone {
			n++
		}
	}
	return n
}

func measureVolume(to *telemetry.Samples, v *volume.Volume, st *cluster.State) {
	rec, s := v.Record(), v.Stats()
	for name, n := range map[string]float64{
		"holdfast_volume_reads_total": float64(s.Reads), "holdfast_volume_read_bytes_total": float64(s.ReadBytes),
		"holdfast_volume_writes_total": float64(s.Writes), "holdfast_volume_written_bytes_total": float64(s.WrittenBytes),
		"holdfast_volume_stored_bytes_total": float64(s.StoredBytes), "holdfast_volume_flushes_total": float64(s.Flushes),
		"holdfast_volume_delayed_total": float64(s.Delayed), "holdfast_volume_ejections_total": float64(s.Ejections),
		"holdfast_volume_joins_total": float64(s.Joins), "holdfast_volume_repaired_blocks_total": float64(s.Repaired),
		"holdfast_volume_resync_bytes_total": float64(s.ResyncBytes), "holdfast_volume_copies": float64(rec.Copies),
		"holdfast_volume_in_sync": float64(len(rec.InSync)), "holdfast_volume_epoch": float64(v.Epoch()),
		"holdfast_volume_unanswered_requests": float64(s.Under),
	} {
		to.Add(name, n, rec.Name)
	}
	l := v.Latencies()
	for what, h := range map[string]volume.Latency{"read": l.Read, "write": l.Write, "flush": l.Flush} {
		to.AddSpread("holdfast_volume_request_seconds", spreadOf(h), rec.Name, what)
	}
	for _, hop := range slices.Backward(l.Hops) { // of two copies that a host had, one after the other, the later one
		host := st.Hosts[hop.Host].Val.Name
		for what, h := range map[string]volume.Latency{"append": hop.Append, "sync": hop.Sync} {
			if h.Count > 0 {
				to.AddSpread("holdfast_volume_hop_seconds", spreadOf(h), rec.Name, what, host)
			}
		}
	}
}

// spreadOf adds classes up: Prometheus' include those below them.
func spreadOf(l volume.Latency) telemetry.Spread {
	out := telemetry.Spread{Count: l.Count, Sum: l.Sum, UpTo: make(map[float64]uint64, len(l.Class))}
	var upTo uint64
	for class, n := range l.Class {
		upTo += n
		out.UpTo[volume.LatencyLimit(class).Seconds()] = upTo
	}
	return out
}
