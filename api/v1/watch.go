package v1

// Event is a message of the watch stream: something of the cluster as it is now,
// or that it is gone.
type Event struct {
	Kind string `json:"kind" enum:"all,ready,status,host,disk,volume,vm,export,incident,task" doc:"all: what was told before counts no more, everything follows; ready: everything has been told"`
	ID   string `json:"id,omitempty" doc:"Of the host, disk, volume, VM, export, incident or task"`
	Gone bool   `json:"gone,omitempty" doc:"It is no more"`

	Status   *Status   `json:"status,omitempty" doc:"Without the long work under way, which GET /v1/work tells"`
	Host     *Host     `json:"host,omitempty"`
	Disk     *Disk     `json:"disk,omitempty"`
	Volume   *Volume   `json:"volume,omitempty" doc:"Or an image"`
	VM       *VM       `json:"vm,omitempty"`
	Export   *Export   `json:"export,omitempty"`
	Incident *Incident `json:"incident,omitempty"`
	Task     *Task     `json:"task,omitempty" doc:"One that was noted; what hosts do by themselves is told by GET /v1/tasks alone"`

	// At is set in the last event of what changed at once. A stream that was
	// broken off goes on behind it, at any host.
	At string `json:"at,omitempty" doc:"Where a stream that is broken off after this goes on: 'after' or the header Last-Event-ID of the next request, at any host"`
}
