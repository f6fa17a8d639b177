package v1

import "time"

// Diagnosis is what a host's process can tell of itself to somebody who looks for
// a mistake. There are no secrets in it.
type Diagnosis struct {
	Host       string    `json:"host"`
	Version    string    `json:"version"`
	Go         string    `json:"go" doc:"The compiler that made it"`
	Processors int       `json:"processors"`
	Started    time.Time `json:"started" doc:"By the host's own clock"`
	Now        time.Time `json:"now" doc:"By the host's own clock"`
	Heap       int64     `json:"heap_bytes"`
	Memory     int64     `json:"memory_bytes" doc:"That the program has from the system"`
	Tasks      int       `json:"goroutines"`
	Stacks     string    `json:"stacks" doc:"Where they are, those in one place together"`
	Config     string    `json:"config" doc:"The configuration in force, defaults filled in"`
	Log        string    `json:"log" doc:"What it logged last, up to 256 KiB"`
	Mounts     string    `json:"mounts,omitempty" doc:"/proc/self/mountinfo"`
	Limits     string    `json:"limits,omitempty" doc:"/proc/self/limits"`
}

// Diagnoses are those of several hosts.
type Diagnoses struct {
	Hosts  []Diagnosis `json:"hosts"`
	Silent []string    `json:"silent,omitempty" doc:"Hosts that are alive and did not answer in time"`
}
