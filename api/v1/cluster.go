// Package v1 holds the wire types of the REST API, version 1: plain values
// with JSON names, read by people, scripts, the client and the UI alike. It
// grows only by addition. Sizes are bytes, times are RFC 3339, identifiers are
// UUIDs; wherever a thing is named in a path or a request, its name or its
// identifier may be given. The reference is docs/protocol/api.md.
package v1

import "time"

// Status is the answer to "how is it?". Sentence is the truth in one line.
type Status struct {
	Sentence   string      `json:"sentence"`
	Level      string      `json:"level" enum:"ok,warning,error" doc:"ok: nothing needs a person"`
	Simulated  bool        `json:"simulated,omitempty" doc:"Nothing of this exists: it is a cluster of 'holdfast sim --serve', for looking at and developing against"`
	Host       Self        `json:"host" doc:"The host that answers"`
	Cluster    *Cluster    `json:"cluster,omitempty" doc:"Absent while the host is in no cluster"`
	Counts     Counts      `json:"counts"`
	CanLose    CanLose     `json:"can_lose"`
	Conditions []Condition `json:"conditions"`
	Work       []Work      `json:"work" doc:"What long work is under way: copies that are built or brought up to date, disks that are evacuated, scrubs. What only waits for its turn is counted in the conditions"`
}

// Self is the host that answers.
type Self struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Rack        string `json:"rack"`
	Site        string `json:"site,omitempty"`
	Version     string `json:"version"`
	InCluster   bool   `json:"in_cluster"`
	LeadsKV     bool   `json:"leads_kv,omitempty" doc:"This host's member leads the control plane's votes"`
	Witness     bool   `json:"witness,omitempty" doc:"This host votes in the control plane and does nothing else"`
	Accelerator string `json:"accelerator,omitempty"`
	Why         string `json:"accelerator_why,omitempty"`
	Sandbox     string `json:"sandbox,omitempty"`
	Simulated   bool   `json:"simulated,omitempty" doc:"There is no such host: the cluster is one of 'holdfast sim --serve'"`
}

// Cluster is the cluster itself.
type Cluster struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Leader string `json:"leader,omitempty" doc:"Name of the host that makes the plans"`
	Voters int    `json:"voters" doc:"Members of the control plane"`
	Format int    `json:"format"`
	// Incarnation of the control plane; 0: the first.
	Incarnation int `json:"incarnation,omitempty" doc:"How often the control plane was rebuilt after its majority was lost"`
	// External etcd.
	External bool `json:"external,omitempty" doc:"The control plane is an etcd that somebody else runs; no host votes"`
}

// Counts are totals for a first look.
type Counts struct {
	Racks           int   `json:"racks"`
	Hosts           int   `json:"hosts"`
	HostsAlive      int   `json:"hosts_alive"`
	Witnesses       int   `json:"witnesses,omitempty" doc:"Of the hosts, those that only vote in the control plane; each is a rack of its own"`
	Disks           int   `json:"disks"`
	VMs             int   `json:"vms"`
	VMsOn           int   `json:"vms_on" doc:"VMs that should run"`
	VMsRunning      int   `json:"vms_running"`
	Volumes         int   `json:"volumes"`
	VolumesDegraded int   `json:"volumes_degraded" doc:"Volumes with fewer in-sync copies than they should have"`
	BytesTotal      int64 `json:"bytes_total"`
	BytesFree       int64 `json:"bytes_free"`
}

// CanLose says what may be lost, one at a time, with every VM that should run
// coming back.
type CanLose struct {
	Racks    []string          `json:"racks"`
	Hosts    []string          `json:"hosts"`
	NotRacks map[string]string `json:"not_racks,omitempty" doc:"Rack and why not"`
	NotHosts map[string]string `json:"not_hosts,omitempty" doc:"Host and why not"`
	Unknown  string            `json:"unknown,omitempty" doc:"Why nothing can be said now"`
}

// Condition is something wrong that a person should know, with its cause.
type Condition struct {
	ID       string      `json:"id"`
	Severity string      `json:"severity" enum:"info,warning,error"`
	Text     string      `json:"text"`
	Since    *time.Time  `json:"since,omitempty"`
	Effects  []Condition `json:"effects,omitempty" doc:"What follows from it"`
}

// ClusterInit asks a host that is in no cluster to make one.
type ClusterInit struct {
	Name string `json:"name" minLength:"1" maxLength:"63" example:"field" doc:"Name of the new cluster"`
}

// Admin is the administrator's credential; it is given out once.
type Admin struct {
	Cluster Cluster `json:"cluster"`
	CA      string  `json:"ca" doc:"PEM"`
	Cert    string  `json:"cert" doc:"PEM"`
	Key     string  `json:"key" doc:"PEM; keep it secret"`
}

// JoinCodeSpec asks for a join code.
type JoinCodeSpec struct {
	Rack    string `json:"rack,omitempty" maxLength:"63" doc:"Admit a host of this rack only"`
	Seconds int    `json:"seconds,omitempty" minimum:"0" maximum:"3600" doc:"How long it may be used; 0: an hour"`
}

// JoinCodeText is a fresh join code.
type JoinCodeText struct {
	Code string `json:"code"`
}

// JoinCodeInfo is a code that may still be used. The code itself is not kept.
type JoinCodeInfo struct {
	ID      string    `json:"id" doc:"SHA-256 of its secret; the first 12 digits name it in the table"`
	Rack    string    `json:"rack,omitempty" doc:"It admits a host of this rack only"`
	Created time.Time `json:"created" doc:"By the clock of the host that made it; it ends an hour later at most, by the control plane's"`
}

// HostJoin asks a host that is in no cluster to join one.
type HostJoin struct {
	Code string `json:"code" minLength:"1" maxLength:"4096" doc:"From 'holdfast host code' on a member"`
}

// JoinRequest is what a joining host sends to a member, authorised by the
// code's secret alone.
type JoinRequest struct {
	Secret   string `json:"secret" maxLength:"128" doc:"The code's secret, hexadecimal"`
	HostID   string `json:"host_id" format:"uuid"`
	Name     string `json:"name" maxLength:"63"`
	Site     string `json:"site,omitempty" maxLength:"63"`
	Rack     string `json:"rack" maxLength:"63"`
	Addr     string `json:"addr" maxLength:"261" doc:"Transport, host:port"`
	API      string `json:"api_addr" maxLength:"261" doc:"HTTPS API, host:port"`
	Peer     string `json:"peer,omitempty" maxLength:"300" doc:"etcd peer URL"`
	Client   string `json:"client,omitempty" maxLength:"300" doc:"etcd client URL"`
	CSR      string `json:"csr" maxLength:"16384" doc:"PEM certificate request"`
	External bool   `json:"external,omitempty" doc:"The host looks for the control plane in an external etcd"`
	// Witness says what the host is to be.
	Witness bool `json:"witness,omitempty" doc:"The host is to vote in the control plane and do nothing else; its rack has no other"`
}

// JoinAnswer is what the member gives back.
type JoinAnswer struct {
	ClusterID   string            `json:"cluster_id"`
	ClusterName string            `json:"cluster_name"`
	CA          string            `json:"ca" doc:"PEM"`
	Cert        string            `json:"cert" doc:"PEM, for the key of the request"`
	Endpoints   []string          `json:"endpoints" doc:"Client URLs of the control plane"`
	Keys        map[string]string `json:"keys,omitempty" doc:"SHA-256 of the members' public keys, by host"`
	External    bool              `json:"external,omitempty" doc:"The control plane is an external etcd cluster"`
	Voter       bool              `json:"voter,omitempty" doc:"The host is to be a voting member"`
	// Initial lists name=peerURL of the control plane with the new member, as
	// etcd's initial cluster, if the host is to vote.
	Initial []string `json:"initial,omitempty"`
	// Incarnation of the control plane.
	Incarnation int `json:"incarnation,omitempty" doc:"How often the control plane was rebuilt"`
}

// Host is a member computer: what it should be and what it says of itself.
type Host struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Site        string      `json:"site,omitempty"`
	Rack        string      `json:"rack"`
	State       string      `json:"state" enum:"alive,away,drained"`
	Addr        string      `json:"addr"`
	API         string      `json:"api_addr"`
	Voter       bool        `json:"voter"`
	Witness     bool        `json:"witness,omitempty" doc:"It votes in the control plane and has neither disks nor VMs"`
	Leader      bool        `json:"leader"`
	Drained     bool        `json:"drained"`
	CPUs        int         `json:"cpus,omitempty"`
	MemoryMiB   int         `json:"memory_mib,omitempty"`
	Accelerator string      `json:"accelerator,omitempty"`
	Sandbox     string      `json:"sandbox,omitempty"`
	Version     string      `json:"version,omitempty"`
	Wall        *time.Time  `json:"wall,omitempty" doc:"The host's own clock when it last spoke"`
	VMs         []string    `json:"vms"`
	BytesTotal  int64       `json:"bytes_total"`
	BytesFree   int64       `json:"bytes_free"`
	BytesRAM    int64       `json:"bytes_ram,omitempty" doc:"Of its memory that is given to disks"`
	Conditions  []Condition `json:"conditions,omitempty"`
}

// DrainSpec says whether a host may have work.
type DrainSpec struct {
	On           bool `json:"on" doc:"true: move work off; false: take work again"`
	GuestSeconds int  `json:"guest_seconds,omitempty" minimum:"0" maximum:"86400" doc:"How long a guest may take to shut down before it is ended; 0: 60"`
}

// Drain is how far the draining of a host has come, or for one that is not
// drained what it would do.
type Drain struct {
	Host    string   `json:"host"`
	Drained bool     `json:"drained"`
	Moves   []Move   `json:"moves" doc:"The VMs that should run there, in the order of their going"`
	Noticed bool     `json:"noticed" doc:"The host knows that it is drained, has handed over what it could, and says what it is used for; or it is away"`
	Written []string `json:"written" doc:"Volumes that initiators still use by way of it: their sessions would end with it"`
	// Needed says why the host should not be switched off yet.
	Needed []string `json:"needed" doc:"What speaks against switching the host off now"`
}

// Move is one VM on its way off a host.
type Move struct {
	VM    string `json:"vm"`
	Stage string `json:"stage" enum:"waiting,leaving,shut down,stays" doc:"stays: no other host can take it, and it goes on where it is"`
	To    string `json:"to,omitempty" doc:"Host that is to have it"`
	Why   string `json:"why" doc:"Why that host, or why none"`
}

// Rack is what is lost together.
type Rack struct {
	Name    string   `json:"name" doc:"With its site before it, if it has one: SITE/RACK"`
	Hosts   []string `json:"hosts"`
	Alive   []string `json:"alive" doc:"Those that are"`
	Voters  []string `json:"voters" doc:"Those that vote in the control plane"`
	VMs     []string `json:"vms"`
	Witness bool     `json:"witness,omitempty" doc:"It holds a witness and nothing else"`
	CanLose bool     `json:"can_lose" doc:"Everything would come back elsewhere"`
}

// RemovalSpec strikes hosts from the membership.
type RemovalSpec struct {
	Lost   bool     `json:"lost" doc:"They will not come back; without it they must be drained and hold nothing"`
	GiveUp []string `json:"give_up,omitempty" maxItems:"1000" doc:"Volumes that may be unreachable afterwards; without a volume's name here nothing is removed that would leave it so"`
}

// Removal says what striking hosts from the membership means, or has meant.
type Removal struct {
	Hosts   []string        `json:"hosts"`
	Lost    bool            `json:"lost"`
	Refused []string        `json:"refused" doc:"Why it cannot be done, and what to do"`
	VMs     []RemovalVM     `json:"vms" doc:"VMs that are to run there"`
	Volumes []RemovalVolume `json:"volumes" doc:"Volumes with a copy there"`
	Voters  []string        `json:"voters" doc:"Hosts whose votes in the control plane go"`
	Control string          `json:"control" doc:"What becomes of the control plane"`
}

// RemovalVM is a VM whose host is removed.
type RemovalVM struct {
	VM  string `json:"vm"`
	To  string `json:"to,omitempty" doc:"Host that it starts on"`
	Why string `json:"why" doc:"Why that host, or why none"`
}

// RemovalVolume is a volume with a copy on a host that is removed.
type RemovalVolume struct {
	Volume string `json:"volume"`
	Size   int64  `json:"size" doc:"bytes"`
	State  string `json:"state" enum:"whole,degraded,unreachable" doc:"whole: it has its copies elsewhere; unreachable: nobody can read it any more, or not before others return"`
	Left   int    `json:"left" doc:"Copies in sync that are left and can be used now"`
	Copies int    `json:"copies" doc:"Copies that it should have"`
	Why    string `json:"why"`
}

// Incident is the loss of one or more hosts, seen as one, with what was done.
type Incident struct {
	ID     string     `json:"id"`
	Racks  []string   `json:"racks" doc:"Racks lost whole"`
	Hosts  []string   `json:"hosts"`
	Opened time.Time  `json:"opened"`
	Closed *time.Time `json:"closed,omitempty"`
	Steps  []Step     `json:"steps"`
}

// Step is one entry of an incident's timeline.
type Step struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
	Text string    `json:"text"`
}
