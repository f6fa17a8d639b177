package telemetry

import "slices"

// Kind is what a figure does over time.
type Kind string

// The kinds of figures, by Prometheus' names.
const (
	Gauge   Kind = "gauge"   // goes up and down
	Counter Kind = "counter" // goes up, and back to 0 when the process or what it counts begins anew

	Histogram Kind = "histogram" // counters of how many took at most so long
)

// Family is the figures of one name. Units are in the name, base units only:
// seconds, bytes, ratio (0 to 1); without one it is a number of things, and a
// truth is 1 or 0.
type Family struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// Families returns all families that a host tells of itself and of the cluster,
// beside those of its process (go_*, process_*) and of the calls of its API,
// in the order of their names.
func Families() []Family {
	out := slices.Concat(hostFamilies(), diskFamilies(), volumeFamilies(), clusterFamilies())
	slices.SortFunc(out, func(a, b Family) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func hostFamilies() []Family {
	return []Family{
		{"holdfast_build_info", Gauge, []string{"version"}, "1; the version of the program."},
		{"holdfast_host_info", Gauge, []string{"host", "rack", "site"}, "1; who tells this."},
		{"holdfast_host_in_cluster", Gauge, nil, "Whether the host is a member of a cluster."},
		{"holdfast_host_lease_valid", Gauge, nil, "Whether the control plane was heard of lately: nothing can be changed from here without."},
		{"holdfast_host_leads_control_plane", Gauge, nil, "Whether its member leads the control plane."},
		{"holdfast_vm_up", Gauge, []string{"vm"}, "Of the machines of this host: whether one runs."},
		{"holdfast_vm_cpu_seconds_total", Counter, []string{"vm"}, "Time of the host's processors that its process had; as all figures of VMs, since that was started, and as it was told a few seconds ago."},
		{"holdfast_vm_memory_bytes", Gauge, []string{"vm"}, "Of the host's memory that its process takes."},
		{"holdfast_vm_disk_requests_total", Counter, []string{"vm", "what"}, "Requests of the guest to its disks: read, write, flush."},
		{"holdfast_vm_disk_request_seconds_total", Counter, []string{"vm", "what"}, "How long these took together, each from the guest's side; by the requests it is the mean latency."},
		{"holdfast_vm_disk_bytes_total", Counter, []string{"vm", "what"}, "Bytes that were read and written by them."},
		{"holdfast_vm_network_bytes_total", Counter, []string{"vm", "what"}, "Bytes of Ethernet frames that the guest has received and sent."},
	}
}

func diskFamilies() []Family {
	disk := []string{"disk"}
	return []Family{
		{"holdfast_disk_up", Gauge, disk, "Whether the disk is in use; 0: it was given up after an error."},
		{"holdfast_disk_size_bytes", Gauge, disk, "Room for segments."},
		{"holdfast_disk_usable_bytes", Gauge, disk, "Of the size, without the reserve: as much may be live."},
		{"holdfast_disk_free_bytes", Gauge, disk, "In segments that hold nothing."},
		{"holdfast_disk_live_bytes", Gauge, disk, "Of blocks that a volume or a snapshot refers to."},
		{"holdfast_disk_replicas", Gauge, disk, "Replicas of volumes on it."},
		{"holdfast_disk_map_memory_bytes", Gauge, disk, "Memory that its block maps take now."},
		{"holdfast_disk_bad_blocks", Gauge, disk, "Blocks found not to match their hash, and not repaired yet."},
		{"holdfast_disk_appended_bytes_total", Counter, disk, "Payload handed in; written over appended is the write amplification."},
		{"holdfast_disk_written_bytes_total", Counter, []string{"disk", "what"}, "Written to the device: log, cleaned (moved by the cleaner), map, catalog, zeroed (new segments)."},
		{"holdfast_disk_scrub_running", Gauge, disk, "Whether the disk is scrubbed now."},
		{"holdfast_disk_scrub_done_bytes", Gauge, disk, "Read by the scrub under way."},
		{"holdfast_disk_scrub_left_bytes", Gauge, disk, "Still to be read by it, about."},
		{"holdfast_disk_scrubbed_timestamp_seconds", Gauge, disk, "When the last whole scrub began that came to its end, by the host's clock; absent: never."},
	}
}

func volumeFamilies() []Family {
	volume, copied := []string{"volume"}, []string{"volume", "host"}
	return []Family{
		{"holdfast_volume_reads_total", Counter, volume, "Requests to read, since the host that tells this opened the volume for writing; so are all figures of volumes."},
		{"holdfast_volume_read_bytes_total", Counter, volume, "Read by clients."},
		{"holdfast_volume_writes_total", Counter, volume, "Requests to write, zero or trim."},
		{"holdfast_volume_written_bytes_total", Counter, volume, "Written by clients."},
		{"holdfast_volume_stored_bytes_total", Counter, volume, "Of what was written, after compression and encryption; one copy."},
		{"holdfast_volume_flushes_total", Counter, volume, "Requests to flush."},
		{"holdfast_volume_delayed_total", Counter, volume, "Requests that waited for the volume's limits."},
		{"holdfast_volume_unanswered_requests", Gauge, volume, "Writes and flushes under way."},
		{"holdfast_volume_copies", Gauge, volume, "Copies it should have."},
		{"holdfast_volume_in_sync", Gauge, volume, "Copies that have everything acknowledged."},
		{"holdfast_volume_epoch", Gauge, volume, "Of its writer; it rises with every opening."},
		{"holdfast_volume_ejections_total", Counter, volume, "Copies that were done without because they did not answer."},
		{"holdfast_volume_joins_total", Counter, volume, "Copies that came to be in sync again, or anew."},
		{"holdfast_volume_repaired_blocks_total", Counter, volume, "Bad blocks that were restored from another copy."},
		{"holdfast_volume_resync_bytes_total", Counter, volume, "Sent again to copies that were brought up to date."},
		{"holdfast_volume_request_seconds", Histogram, []string{"volume", "what"}, "How long requests took that were answered well, from when the volume's limits let them in: read, write (or zero, trim), flush."},
		{"holdfast_volume_hop_seconds", Histogram, []string{"volume", "hop", "host"}, "Where their time goes, by the host of each copy: append, records on their way into another host's memory and the answer; sync, until its disk has made them durable, the way there included."},
		{"holdfast_rebuild_done_ratio", Gauge, copied, "How much of the snapshot or content that is copied now the copy on that host has."},
		{"holdfast_rebuild_rate_bytes_per_second", Gauge, copied, "How fast it goes."},
		{"holdfast_rebuild_waits", Gauge, copied, "Whether it waits for its turn."},
	}
}

func clusterFamilies() []Family {
	state := []string{"state"}
	return []Family{
		{"holdfast_cluster_stale", Gauge, nil, "Whether the figures of the cluster may be out of date: this host does not reach the control plane."},
		{"holdfast_cluster_hosts", Gauge, state, "Hosts, alive or away."},
		{"holdfast_cluster_vms", Gauge, state, "VMs that should run, running or not, and those that should not, off."},
		{"holdfast_cluster_volumes", Gauge, state, "Volumes, whole or degraded."},
		{"holdfast_cluster_size_bytes", Gauge, nil, "Of all disks, raw: a volume takes its size times its copies."},
		{"holdfast_cluster_free_bytes", Gauge, nil, "Of that, free."},
		{"holdfast_cluster_conditions", Gauge, []string{"condition", "severity"}, "Conditions that hold, by the name of their runbook: holdfast runbook CONDITION."},
		{"holdfast_cluster_losable_racks", Gauge, nil, "Racks of which any one can be lost with nothing lost and every VM running again."},
		{"holdfast_cluster_incidents", Gauge, nil, "Losses of hosts that the records still tell of."},
	}
}
