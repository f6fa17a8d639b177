package v1

import "time"

// Share is an amount of what a project has, or may have: then 0 is no limit.
type Share struct {
	VMs       int64 `json:"vms" minimum:"0"`
	CPUs      int64 `json:"cpus" minimum:"0"`
	MemoryMiB int64 `json:"memory_mib" minimum:"0"`
	Bytes     int64 `json:"bytes" minimum:"0" doc:"Of volumes, as guests see them: once, however many copies there are"`
}

// Project is a tenant: users, tokens, VMs and volumes that have no part in others.
type Project struct {
	Name    string    `json:"name"`
	Quota   Share     `json:"quota"`
	Used    Share     `json:"used"`
	Created time.Time `json:"created"`
}

// ProjectSpec is a project to be made.
type ProjectSpec struct {
	Name  string `json:"name" maxLength:"63"`
	Quota Share  `json:"quota,omitzero"`
}

// ProjectChange is another quota. What the project has already stays.
type ProjectChange struct {
	Quota Share `json:"quota"`
}

// ProjectAssign gives something that is there to a project; one of both.
type ProjectAssign struct {
	VM     string `json:"vm,omitempty" maxLength:"63" doc:"Name or identity"`
	Volume string `json:"volume,omitempty" maxLength:"63" doc:"Name or identity of a volume that is no VM's disk, or of an image"`
}
