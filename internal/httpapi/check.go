package httpapi

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	maxCopies   = 8
	minMemory   = 16      // MiB
	defMemory   = 256     // MiB
	maxSSHKey   = 16384   // bytes of one key line
	maxUserData = 1 << 16 // bytes
)

// blocksOf turns a size in bytes into blocks. zero says whether 0 is allowed.
func blocksOf(what string, size int64, zero bool) (uint64, error) {
	switch {
	case size == 0 && zero:
		return 0, nil
	case size <= 0:
		return 0, holdfast.Errorf(holdfast.Invalid, "%s: size %d: give a size above zero, for example 10737418240 (10GiB)", what, size)
	case size%holdfast.BlockSize != 0:
		up := (size/holdfast.BlockSize + 1) * holdfast.BlockSize
		return 0, holdfast.Errorf(holdfast.Invalid, "%s: size %d is not a multiple of %d bytes; the next larger one is %d", what, size, holdfast.BlockSize, up)
	case uint64(size) > holdfast.MaxVolumeBlocks*holdfast.BlockSize:
		return 0, holdfast.Errorf(holdfast.Invalid, "%s: size %d is more than a volume can hold (64TiB); use several volumes", what, size)
	}
	return uint64(size) / holdfast.BlockSize, nil
}

func checkCopies(what string, copies, least int) error {
	switch {
	case copies < 0 || copies > maxCopies:
		return holdfast.Errorf(holdfast.Invalid, "%s: %d copies: give 1 to %d, or 0 for the default", what, copies, maxCopies)
	case least < 0 || copies > 0 && least > copies:
		return holdfast.Errorf(holdfast.Invalid, "%s: a minimum of %d in-sync copies with %d copies can never be kept; give 1 to %d", what, least, copies, copies)
	}
	return nil
}

// newVolume checks a request and resolves its names.
func (p picture) newVolume(s v1.VolumeSpec) (NewVolume, error) {
	n := NewVolume{Name: s.Name, Copies: s.Copies, Min: s.Min, Durability: cluster.Durability(s.Durability), Reads: cluster.Reads(s.Reads),
		Encrypt: s.Encrypt, Compression: s.Compress, Limits: cluster.Limits{IOPS: s.IOPS, MBps: s.MBps, BurstMS: s.BurstMS}, Weight: s.Weight}
	if err := holdfast.CheckName("volume", s.Name); err != nil {
		return n, err
	}
	if err := checkCopies("volume "+s.Name, s.Copies, s.Min); err != nil {
		return n, err
	}
	blocks, err := blocksOf("volume "+s.Name, s.Size, s.From != "")
	if err != nil {
		return n, err
	}
	n.Blocks = blocks
	if err := n.Limits.Check(); err != nil {
		return n, holdfast.Errorf(holdfast.Invalid, "volume %s: %w", s.Name, err)
	}
	if err := cluster.CheckWeight(n.Weight); err != nil {
		return n, holdfast.Errorf(holdfast.Invalid, "volume %s: %w", s.Name, err)
	}
	if n.Durability == "" {
		n.Durability = cluster.OnFlush
	}
	if s.From == "" {
		pool, err := p.pool(s.Pool)
		if err != nil {
			return n, err
		}
		n.Pool = pool.ID
		if s.Snapshot != "" {
			return n, holdfast.Errorf(holdfast.Invalid, "volume %s: a snapshot is given but not the volume it belongs to; set 'from' too", s.Name)
		}
		return n, nil
	}
	n.Origin, err = p.origin(s)
	return n, err
}

func (p picture) origin(s v1.VolumeSpec) (*cluster.Origin, error) {
	v, err := p.anyVolume("image or volume", s.From, func(cluster.Volume) bool { return true })
	if err != nil {
		return nil, err
	}
	if err := p.clonePool("volume "+s.Name, s.Pool, v); err != nil {
		return nil, err
	}
	o := &cluster.Origin{Volume: v.ID}
	if v.Image && !v.Sealed {
		return nil, holdfast.Errorf(holdfast.Unavailable, "image %s is still being imported; try again when 'holdfast image list' says ok", v.Name)
	}
	if s.Size != 0 && uint64(s.Size)/holdfast.BlockSize < v.Blocks {
		return nil, holdfast.Errorf(holdfast.Invalid, "volume %s: a clone of %s must be at least as large as it is, %d bytes", s.Name, v.Name, v.Blocks*holdfast.BlockSize)
	}
	if s.Snapshot != "" {
		snap, err := snapshot(v, s.Snapshot)
		if err != nil {
			return nil, err
		}
		o.Snapshot = snap.ID
	}
	return o, nil
}

// newVM checks a request and resolves its names.
func (p picture) newVM(s v1.VMSpec) (NewVM, error) {
	n := NewVM{Name: s.Name, Copies: s.Copies, CPUs: max(s.CPUs, 1), MemoryMiB: s.MemoryMiB, Power: cluster.On,
		Priority: priorityOf(s.Priority), Isolation: cluster.Isolation(s.Isolation), UserData: s.UserData,
		SSHKeys: s.SSHKeys, Kernel: s.Kernel, Initrd: s.Initrd, Append: s.Append, Boot: s.Boot}
	if err := holdfast.CheckName("VM", s.Name); err != nil {
		return n, err
	}
	if s.Off {
		n.Power = cluster.Stopped
	}
	if n.MemoryMiB == 0 {
		n.MemoryMiB = defMemory
	}
	if n.Isolation == "" {
		n.Isolation = cluster.IsolationPause
	}
	if err := checkMemory(s.Name, n.MemoryMiB); err != nil {
		return n, err
	}
	if err := p.vmDisk(s, &n); err != nil {
		return n, err
	}
	if err := p.vmBoot(s); err != nil {
		return n, err
	}
	var err error
	if n.CDROM, err = p.vmMedium(s.Name, s.CDROM); err != nil {
		return n, err
	}
	if err := p.vmFirmware(s, &n); err != nil {
		return n, err
	}
	n.Publish, err = p.vmPublish(holdfast.VMID{}, s)
	return n, err
}

// vmBoot checks what a machine is told when it starts.
func (p picture) vmBoot(s v1.VMSpec) error {
	if err := p.vmKernel(s); err != nil {
		return err
	}
	if err := cluster.CheckBoot(s.Boot); err != nil {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: %w", s.Name, err)
	}
	return checkSeed(s)
}

// vmFirmware checks what is to start a VM.
func (p picture) vmFirmware(s v1.VMSpec, n *NewVM) error {
	n.UEFI = s.Firmware == "uefi" || s.Firmware == "" && s.Vars != ""
	if s.Vars == "" {
		return nil
	}
	if !n.UEFI {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: UEFI variables are given, and it is to be started by a BIOS", s.Name)
	}
	v, err := p.volume(s.Vars)
	if err != nil {
		return err
	}
	if vm, ok := p.VMs[v.VM]; ok {
		return holdfast.Errorf(holdfast.Busy, "volume %s is VM %s's; give it to no other", v.Name, vm.Val.Name)
	}
	if v.Blocks != cluster.VarsBlocks {
		return holdfast.Errorf(holdfast.Invalid, "volume %s holds no UEFI variables: it has %d bytes, and these have %d", v.Name, v.Blocks*holdfast.BlockSize, cluster.VarsBlocks*holdfast.BlockSize)
	}
	n.Vars = v.ID
	return nil
}

// vmMedium finds the image that is to lie in a VM's CD-ROM drive; "": none.
func (p picture) vmMedium(vm, ref string) (holdfast.VolumeID, error) {
	if ref == "" {
		return holdfast.VolumeID{}, nil
	}
	v, err := p.image(ref)
	if err == nil && !v.Sealed {
		err = holdfast.Errorf(holdfast.Unavailable, "VM %s: image %s is still being imported; try again when 'holdfast image list' says ok", vm, v.Name)
	}
	return v.ID, err
}

func checkMemory(vm string, mib int) error {
	if mib < minMemory {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: %d MiB of memory is too little to start; give %d or more", vm, mib, minMemory)
	}
	return nil
}

func (p picture) vmDisk(s v1.VMSpec, n *NewVM) error {
	if s.Image != "" && s.Volume != "" || s.Image == "" && s.Volume == "" && s.Size == 0 {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: give either an image to clone its disk from or a volume to boot from, or the size of an empty disk to install on; see 'holdfast image list'", s.Name)
	}
	if err := checkCopies("VM "+s.Name, s.Copies, 0); err != nil {
		return err
	}
	if s.Volume != "" {
		v, err := p.volume(s.Volume)
		if err != nil {
			return err
		}
		if vm, ok := p.VMs[v.VM]; ok {
			return holdfast.Errorf(holdfast.Busy, "volume %s is the disk of VM %s; a disk is never given to two VMs: clone it", v.Name, vm.Val.Name)
		}
		if s.Size != 0 {
			return holdfast.Errorf(holdfast.Invalid, "VM %s: a size goes with an image; grow the volume with 'holdfast volume grow'", s.Name)
		}
		n.Volume = v.ID
		if pool, err := p.pool(s.Pool); err != nil || s.Pool != "" && pool.ID != v.Pool {
			return cmp.Or(err, holdfast.Errorf(holdfast.Invalid, "VM %s: volume %s is in pool %s, not in %s", s.Name, v.Name, p.PoolName(v.Pool), pool.Name))
		}
		return nil
	}
	if s.Image == "" {
		return p.vmEmptyDisk(s, n)
	}
	v, err := p.image(s.Image)
	if err != nil {
		return err
	}
	if err := p.clonePool("VM "+s.Name, s.Pool, v); err != nil {
		return err
	}
	if !v.Sealed {
		return holdfast.Errorf(holdfast.Unavailable, "image %s is still being imported; try again when 'holdfast image list' says ok", v.Name)
	}
	n.Image = v.ID
	if n.Blocks, err = blocksOf("VM "+s.Name, s.Size, true); err != nil {
		return err
	}
	if n.Blocks != 0 && n.Blocks < v.Blocks {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: its disk must be at least as large as image %s, %d bytes", s.Name, v.Name, v.Blocks*holdfast.BlockSize)
	}
	return nil
}

// vmEmptyDisk checks a request for a VM that something is yet to be installed on.
func (p picture) vmEmptyDisk(s v1.VMSpec, n *NewVM) error {
	pool, err := p.pool(s.Pool)
	if err != nil {
		return err
	}
	n.Pool = pool.ID
	n.Blocks, err = blocksOf("VM "+s.Name, s.Size, false)
	return err
}

func (p picture) vmKernel(s v1.VMSpec) error {
	if s.Kernel == "" && (s.Initrd != "" || s.Append != "") {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: an initrd or a command line goes with a kernel; name the image that holds one", s.Name)
	}
	if strings.ContainsAny(s.Append, "\x00\n\r") {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: the kernel command line must be one line", s.Name)
	}
	for _, ref := range []string{s.Kernel, s.Initrd} {
		if ref == "" {
			continue
		}
		if _, err := p.image(ref); err != nil {
			return err
		}
	}
	return nil
}

func checkSeed(s v1.VMSpec) error {
	if len(s.UserData) > maxUserData {
		return holdfast.Errorf(holdfast.Invalid, "VM %s: %d bytes of user data, at most %d are allowed; let it fetch the rest", s.Name, len(s.UserData), maxUserData)
	}
	for i, k := range s.SSHKeys {
		if len(k) > maxSSHKey || strings.ContainsAny(k, "\x00\n\r") || len(strings.Fields(k)) < 2 {
			return holdfast.Errorf(holdfast.Invalid, "VM %s: ssh key %d is not one line of an authorized_keys file, like 'ssh-ed25519 AAAA... name'", s.Name, i+1)
		}
	}
	return nil
}

// vmPublish checks the ports that a VM is to publish against themselves and all
// other VMs: two that want the same port cannot both be answered.
func (p picture) vmPublish(self holdfast.VMID, s v1.VMSpec) (out []cluster.Publish, err error) {
	taken := map[cluster.Publish]string{}
	for _, v := range p.vms() {
		for _, f := range v.Publish {
			if !v.Deleted && v.ID != self {
				taken[cluster.Publish{Addr: f.Addr, Port: f.Port}] = v.Name
			}
		}
	}
	for _, f := range s.Publish {
		if f.Addr != "" {
			if _, err := netip.ParseAddr(f.Addr); err != nil {
				return nil, holdfast.Errorf(holdfast.Invalid, "VM %s: %q is not an address to publish on; give an IP address of the hosts, or none for loopback", s.Name, clip(f.Addr))
			}
		}
		key := cluster.Publish{Addr: f.Addr, Port: f.Port}
		if other, ok := taken[key]; ok {
			return nil, holdfast.Errorf(holdfast.Exists, "VM %s: port %d is published by VM %s already; choose another", s.Name, f.Port, other)
		}
		taken[key] = s.Name
		out = append(out, cluster.Publish{Addr: f.Addr, Port: f.Port, GuestPort: f.GuestPort})
	}
	return out, nil
}
