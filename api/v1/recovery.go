package v1

import "time"

// RecoverySpec asks for a recovery of the control plane, or for its plan.
type RecoverySpec struct {
	// Cluster is the cluster's name, typed by who wants it; a plan needs none.
	Cluster    string `json:"cluster,omitempty" maxLength:"63" doc:"Name of the cluster, to confirm"`
	Key        string `json:"key,omitempty" maxLength:"128" doc:"The line of the cluster's key file, if the kept records are sealed with it"`
	Passphrase string `json:"passphrase,omitempty" maxLength:"1024" doc:"Or its passphrase"`
	// Disks of lost hosts that are in this one now, which is in no cluster yet.
	Disks []string `json:"disks,omitempty" maxItems:"64" doc:"Paths of disks of lost hosts that are in this host now, which is in no cluster: their records and replicas are used"`
}

// Recovery is what a recovery would do, is doing, or has done.
type Recovery struct {
	State       string           `json:"state" enum:"none,planned,begun,done,failed"`
	Cluster     string           `json:"cluster"`
	Host        string           `json:"host" doc:"Where the control plane is rebuilt"`
	Incarnation int              `json:"incarnation" doc:"Of the control plane: as planned, or as it is"`
	Source      string           `json:"source,omitempty" doc:"Where the records come from"`
	Revision    int64            `json:"revision,omitempty" doc:"Of the lost control plane, as of which they are"`
	Made        *time.Time       `json:"made,omitempty" doc:"When these records were kept, by this host's clock"`
	Seen        *time.Time       `json:"seen,omitempty" doc:"When this host last knew that there were no newer ones"`
	Stay        []string         `json:"stay" doc:"Hosts that stay members"`
	Shut        []RecoveryHost   `json:"shut_out" doc:"Members that are shut out"`
	Volumes     []RecoveryVolume `json:"volumes"`
	VMs         []string         `json:"vms" doc:"VMs that are started anew where they should run"`
	Warnings    []string         `json:"warnings" doc:"What is not known, or cannot be had back"`
	Error       string           `json:"error,omitempty" doc:"Why it failed; the host goes on as before"`
	Log         string           `json:"log,omitempty" doc:"File on that host that says what was done"`
	Lines       []string         `json:"lines,omitempty" doc:"What was done"`
	At          *time.Time       `json:"at,omitempty" doc:"When it was done"`
	External    bool             `json:"external,omitempty" doc:"The control plane is in an external etcd now"`
	// Endpoints are for hosts that stay: where the control plane is now.
	Endpoints []string `json:"endpoints,omitempty" doc:"Client URLs of the control plane"`
}

// RecoveryHost is a member that is shut out.
type RecoveryHost struct {
	Name string `json:"name"`
	Rack string `json:"rack"`
}

// RecoveryVolume is what becomes of a volume.
type RecoveryVolume struct {
	Volume string `json:"volume"`
	Size   int64  `json:"size"`
	State  string `json:"state" enum:"served,short,stale,unreachable" doc:"Served by a replica that was in sync; short: by fewer than its minimum; stale: only replicas that were not in sync are left"`
	Why    string `json:"why"`
	Copies int    `json:"copies" doc:"Replicas that are left and may be served"`
	Wanted int    `json:"wanted" doc:"Replicas that it should have"`
	Epoch  uint32 `json:"epoch" doc:"In the records"`
	Next   uint32 `json:"next_epoch" doc:"Every opening from now on is above it"`
}
