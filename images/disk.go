package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// The disk: a master boot record, GRUB's core image right behind it, and from
// 1 MiB one partition with the root file system.
const (
	sector    = 512
	partStart = 1 << 20 // bytes
	partSize  = 1<<30 - partStart
	diskSize  = partStart + partSize

	bootCode   = 440 // bytes of the first sector before signature and table
	bootKernel = 0x5c
	partTable  = 446
	linuxType  = 0x83
	coreList   = sector - 12 // the only block list entry of the core's first sector
	coreSeg    = 0x820       // where the rest of the core is loaded, as a segment
)

// lead builds the disk's first MiB. boot is GRUB's boot.img, core what
// grub-mkimage made for i386-pc. What grub-bios-setup would patch on a device,
// is the place of the core: here it is always sector 1.
func lead(boot, core []byte, signature uint32) ([]byte, error) {
	le := binary.LittleEndian
	switch {
	case len(boot) != sector || le.Uint16(boot[510:]) != 0xaa55:
		return nil, fmt.Errorf("boot.img has %d bytes or no signature; a boot sector has %d", len(boot), sector)
	case len(core) < 2*sector || len(core) > partStart-sector:
		return nil, fmt.Errorf("core.img has %d bytes; %d to %d fit before the partition", len(core), 2*sector, partStart-sector)
	}
	b := make([]byte, partStart)
	copy(b, boot[:bootCode])
	le.PutUint64(b[bootKernel:], 1)
	le.PutUint32(b[bootCode:], signature)
	part := b[partTable:]
	part[0], part[4] = 0x80, linuxType // active
	copy(part[1:4], []byte{0xfe, 0xff, 0xff})
	copy(part[5:8], []byte{0xfe, 0xff, 0xff}) // cylinders are not counted any more
	le.PutUint32(part[8:], partStart/sector)
	le.PutUint32(part[12:], partSize/sector)
	le.PutUint16(b[510:], 0xaa55)

	copy(b[sector:], core)
	list := b[sector+coreList:]
	le.PutUint64(list, 2)
	le.PutUint16(list[8:], uint16((len(core)-1)/sector)) // sectors behind the first
	le.PutUint16(list[10:], coreSeg)
	return b, nil
}

// finish makes the disk in path, which holds the file system at its place,
// bootable.
func finish(path string, boot, core []byte) (err error) {
	head, err := lead(boot, core, 0x48464442)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if err := f.Truncate(diskSize); err != nil {
		return err
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	return f.Sync()
}
