package v1

// Build is one build of the program.
type Build struct {
	Version string `json:"version" doc:"As the program says it; empty: it is for another kind of processor"`
	SHA256  string `json:"sha256" doc:"Of its file"`
	Arch    string `json:"arch" doc:"The kind of processor that it is for, as Go names it"`
}

// Program is the program of a host.
type Program struct {
	Host     string   `json:"host"`
	Path     string   `json:"path" doc:"Where it stands on that host"`
	Running  Build    `json:"running" doc:"The process that answers"`
	Disk     *Build   `json:"disk,omitempty" doc:"In its place on the disk: what is run at the next start"`
	Next     *Build   `json:"next,omitempty" doc:"Taken in last, beside it"`
	Previous *Build   `json:"previous,omitempty" doc:"In its place before the last exchange"`
	Failed   string   `json:"failed,omitempty" doc:"Which program it was to run last and was given up, and why"`
	VMs      []string `json:"vms" doc:"That its process looks after"`
	LeadsKV  bool     `json:"leads_kv,omitempty" doc:"This host's member leads the control plane's votes"`
}

// ProgramStart has a host run another program.
type ProgramStart struct {
	SHA256 string `json:"sha256" pattern:"^[0-9a-f]{64}$" example:"0000000000000000000000000000000000000000000000000000000000000000" doc:"Of the program: one that stands in its place, was sent, or was kept"`
	Back   bool   `json:"back,omitempty" doc:"It may be older than the one that runs, and the host itself may be what is not whole"`
	AtRisk bool   `json:"at_risk,omitempty" doc:"The risks of the plan are accepted"`
}

// Upgrade is how the hosts would get another program, in the order of their turns.
type Upgrade struct {
	Racks   []UpgradeRack `json:"racks"`
	Blocked []string      `json:"blocked" doc:"Why not now"`
	Risks   []string      `json:"risks" doc:"What would be lost if a host did not come back: to be accepted"`
	Notes   []string      `json:"notes"`
}

// UpgradeRack is one rack's share of it.
type UpgradeRack struct {
	Rack  string        `json:"rack"`
	Hosts []UpgradeStep `json:"hosts"`
}

// UpgradeStep is one host's turn.
type UpgradeStep struct {
	Host  string   `json:"host"`
	State string   `json:"state" enum:"done,to-do,skipped"`
	From  Build    `json:"from" doc:"What it runs"`
	To    Build    `json:"to" doc:"What it is to run"`
	Why   string   `json:"why,omitempty" doc:"It is skipped"`
	VMs   []string `json:"vms" doc:"That run there, and go on"`
	Away  []string `json:"away" doc:"What is not there while its process begins anew"`
}
