package v1

// VMFile is the definition of a VM as a file holds it: what 'vm export' writes
// and 'vm create -f' reads. Format is 1.
type VMFile struct {
	Format int `json:"format"`
	VMSpec
	Disks []VMDiskSpec `json:"disks,omitempty" doc:"Its disks beside the boot disk, in their order"`
}

// VMFileFormat is the version of VMFile that this build reads and writes.
const VMFileFormat = 1
