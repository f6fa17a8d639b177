package v1

import "time"

// History is what was measured of a VM, a volume or a host over a time.
type History struct {
	Kind    string    `json:"kind" enum:"vm,volume,host"`
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Start   time.Time `json:"start" doc:"When the first point begins, by the hosts' clocks; the others follow, each a step later"`
	Step    int64     `json:"step" doc:"Seconds that a point stands for; it is the mean of what was measured in them"`
	Metrics []Metric  `json:"metrics" doc:"By name"`
	Silent  []string  `json:"silent,omitempty" doc:"Hosts that are alive and did not answer in time: what was measured there is missing"`
}

// Metric is one figure over the time of a History.
type Metric struct {
	Name   string     `json:"name"`
	Unit   string     `json:"unit" enum:"processors,ratio,load,bytes,bytes/s,requests/s,seconds"`
	Points []*float64 `json:"points" doc:"null: nothing was measured"`
}
