package v1

// KVMoveSpec asks for a move of the control plane into an external etcd.
type KVMoveSpec struct {
	// Cluster is the cluster's name, typed by who wants it.
	Cluster string `json:"cluster,omitempty" maxLength:"63" doc:"Name of the cluster, to confirm"`
}

// KVMove is what a move of the control plane would do, or has done.
type KVMove struct {
	State       string       `json:"state" enum:"planned,begun,done" doc:"Begun: an attempt has not ended, and nothing can be changed until it has"`
	Cluster     string       `json:"cluster"`
	Host        string       `json:"host" doc:"That carries it out"`
	Incarnation int          `json:"incarnation" doc:"Of the control plane, afterwards"`
	To          []string     `json:"to" doc:"Endpoints of the external etcd"`
	Prefix      string       `json:"prefix,omitempty" doc:"Of all keys there"`
	Hosts       []KVMoveHost `json:"hosts"`
	Blocked     []string     `json:"blocked" doc:"What has to be mended first"`
	Warnings    []string     `json:"warnings" doc:"What goes with it"`
}

// KVMoveHost is what a move means to a host.
type KVMoveHost struct {
	Name  string `json:"name"`
	Rack  string `json:"rack"`
	State string `json:"state" enum:"follows,away,blocks"`
	Why   string `json:"why,omitempty"`
}

// KVReady is whether a host could have the control plane in the external etcd of its
// configuration.
type KVReady struct {
	Endpoints []string `json:"endpoints"`
	Prefix    string   `json:"prefix,omitempty"`
	Etcd      string   `json:"etcd,omitempty" doc:"Identity of that etcd"`
	Error     string   `json:"error,omitempty" doc:"Why it could not; absent: it could"`
}
