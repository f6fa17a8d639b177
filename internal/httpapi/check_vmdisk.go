package httpapi

import (
	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// newVMDisk checks a request for a VM's disk and resolves its names.
func (p picture) newVMDisk(s v1.VMDiskSpec) (n NewVMDisk, err error) {
	made := s.Size != 0 || s.Name != "" || s.Copies != 0 || s.Pool != "" || s.Encrypt
	switch {
	case s.Volume != "" && made:
		return n, holdfast.Errorf(holdfast.Invalid, "give either the volume that is to be the disk, or the size of a new one")
	case s.Volume != "":
		v, err := p.volume(s.Volume)
		n.Volume = v.ID
		return n, err
	}
	spec := v1.VolumeSpec{Name: s.Name, Size: s.Size, Copies: s.Copies, Pool: s.Pool, Encrypt: s.Encrypt}
	if spec.Name == "" {
		spec.Name = "disk" // until it is known of which VM
	}
	n.New, err = p.newVolume(spec)
	n.New.Name = s.Name
	return n, err
}

// vmDiskSize checks that a disk of a VM may have a size.
func (p picture) vmDiskSize(vm, disk string, size int64) (id holdfast.VolumeID, blocks uint64, err error) {
	v, err := p.vm(vm)
	if err != nil {
		return id, 0, err
	}
	d, err := p.volume(disk)
	if err != nil {
		return id, 0, err
	}
	if !v.Has(d.ID) {
		return id, 0, holdfast.Errorf(holdfast.NotFound, "volume %s is no disk of VM %s: see 'holdfast vm disk list %s'", d.Name, v.Name, v.Name)
	}
	if blocks, err = blocksOf("disk "+d.Name, size, false); err != nil {
		return id, 0, err
	}
	if blocks < d.Blocks {
		return id, 0, holdfast.Errorf(holdfast.Invalid, "disk %s of VM %s has %d bytes and is never made smaller: what stands at its end would be lost; make a smaller disk and copy what is needed",
			d.Name, v.Name, d.Blocks*holdfast.BlockSize)
	}
	return d.ID, blocks, nil
}
