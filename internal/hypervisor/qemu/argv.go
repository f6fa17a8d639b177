package qemu

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Bounds of a machine.
const (
	minMemoryMiB = 8
	maxMemoryMiB = 1 << 20
	maxCPUs      = 64
)

// PCI slots of bus 0. The disks come in their order and before any other
// block device, for firmware and simple guests that take the first.
const (
	slotScreen    = 2
	slotNIC       = 3
	slotFirstDisk = 4
	slotPointer   = 0x1d
	slotSeed      = 0x1e
	slotRandom    = 0x1f
)

// reconnectDelay, in seconds, is how long QEMU holds the guest's requests
// while the agent that serves its disks is away.
const reconnectDelay = 3600

// layout says under which paths QEMU finds what belongs to a machine.
type layout struct {
	monitor, screen, net string // sockets that QEMU listens on
	serial               string // what the serial port's files are called, but for .in and .out
	kernel, initrd, seed string // copies, "" if the spec has none
	firmware             string // UEFI, "" for a BIOS
	waits                bool   // for the memory that it is to go on with
}

// checkSpec refuses what could not start or would mean something else on
// QEMU's command line.
func checkSpec(s hypervisor.Spec) error {
	bad := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.Invalid, "machine %s: %w", s.Name, fmt.Errorf(format, args...))
	}
	switch {
	case s.VM.IsZero():
		return bad("it has no identifier")
	case s.CPUs < 1 || s.CPUs > maxCPUs:
		return bad("%d CPUs; use 1 to %d", s.CPUs, maxCPUs)
	case s.MemoryMiB < minMemoryMiB || s.MemoryMiB > maxMemoryMiB:
		return bad("%d MiB of memory; use %d to %d", s.MemoryMiB, minMemoryMiB, maxMemoryMiB)
	case len(s.Disks) > hypervisor.MaxDisks:
		return bad("%d disks; at most %d fit", len(s.Disks), hypervisor.MaxDisks)
	case len(s.Disks) == 0 && s.Kernel == "":
		return bad("it has neither a disk nor a kernel to boot from")
	case s.Kernel == "" && (s.Initrd != "" || s.Append != ""):
		return bad("an initrd or kernel arguments need a kernel")
	case len(s.Append) > 2048 || strings.ContainsAny(s.Append, "\x00\n"):
		return bad("the kernel arguments are too long or have a line end")
	}
	if err := checkBoot(s); err != nil {
		return bad("%w", err)
	}
	for i, d := range s.Disks {
		if err := checkDisk(d); err != nil {
			return bad("%w", err)
		}
		if i > 0 && d.Slot <= s.Disks[i-1].Slot {
			return bad("the disks are not in the order of their slots, each at one of its own")
		}
	}
	if s.NIC != nil {
		if mac, err := net.ParseMAC(s.NIC.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return bad("%q is not the address of one network card", s.NIC.MAC)
		}
	}
	return nil
}

// checkBoot looks at what a machine is started from, and at what lies in its
// drive.
func checkBoot(s hypervisor.Spec) error {
	for i, what := range s.Boot {
		if what != hypervisor.BootDisk && what != hypervisor.BootCD || slices.Contains(s.Boot[:i], what) {
			return holdfast.Errorf(holdfast.Invalid, "it is to be started from %q; use %s and %s, each once", what, hypervisor.BootDisk, hypervisor.BootCD)
		}
	}
	if s.CD != nil {
		if err := checkMedium(*s.CD); err != nil {
			return err
		}
	}
	if s.Vars == nil {
		return nil
	}
	if s.Vars.Slot != hypervisor.SlotVars || s.Vars.ReadOnly {
		return holdfast.Errorf(holdfast.Invalid, "UEFI variables at slot %d; they are written, at %d", s.Vars.Slot, hypervisor.SlotVars)
	}
	return checkSocket(*s.Vars)
}

func checkMedium(d hypervisor.Disk) error {
	if d.Slot != hypervisor.SlotCD || !d.ReadOnly {
		return holdfast.Errorf(holdfast.Invalid, "a medium at slot %d; it is read-only, at %d", d.Slot, hypervisor.SlotCD)
	}
	return checkSocket(d)
}

func checkDisk(d hypervisor.Disk) error {
	if d.Slot < 0 || d.Slot >= hypervisor.MaxDisks {
		return holdfast.Errorf(holdfast.Invalid, "a disk at slot %d; use 0 to %d", d.Slot, hypervisor.MaxDisks-1)
	}
	return checkSocket(d)
}

func checkSocket(d hypervisor.Disk) error {
	switch {
	case d.Socket == "" || d.Socket[0] != '/' || len(d.Socket) > maxSocketPath || len(d.Export) > 4096 || strings.ContainsRune(d.Socket+d.Export, 0):
		return holdfast.Errorf(holdfast.Invalid, "disk %d: %q is not an absolute socket path of at most %d bytes, or the export name is too long", d.Slot, d.Socket, maxSocketPath)
	}
	return nil
}

// esc doubles commas, which separate QEMU's options.
func esc(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// argv builds QEMU's arguments. It is a pure function of the checked spec, the
// accelerator and the paths.
func argv(s hypervisor.Spec, accel string, l layout) []string {
	a := []string{
		"-name", "guest=" + esc(s.Name) + ",debug-threads=on",
		"-uuid", s.VM.String(),
		"-nodefaults", "-no-user-config", "-display", "none",
	}
	a = append(a, machineArgs(s, l)...)
	a = append(a, accelArgs(accel, s.MemoryMiB)...)
	a = append(a,
		"-m", strconv.Itoa(s.MemoryMiB), "-smp", strconv.Itoa(s.CPUs),
		"-rtc", "base=utc", "-boot", "strict=on",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-S", // until the monitor is ours
		"-chardev", "socket,id=monitor,path="+esc(l.monitor)+",server=on,wait=off",
		"-mon", "chardev=monitor,mode=control",
		"-chardev", "pipe,id=serial,path="+esc(l.serial),
		"-serial", "chardev:serial",
		"-device", fmt.Sprintf("VGA,id=screen,vgamem_mb=16,addr=%#x", slotScreen),
		"-device", fmt.Sprintf("virtio-tablet-pci,addr=%#x", slotPointer), // says where it is, which RFB's pointer does too
		"-vnc", "unix:"+esc(l.screen)+",share=force-shared",
		"-object", "rng-builtin,id=random",
		"-device", fmt.Sprintf("virtio-rng-pci,rng=random,addr=%#x", slotRandom),
	)
	order := bootOrder(s.Boot, l.kernel != "")
	for _, d := range s.Disks {
		a = append(a, diskArgs(d, order[hypervisor.BootDisk]+d.Slot)...)
	}
	a = append(a, "-device", fmt.Sprintf("ide-cd,id=%s,bus=ide.1,unit=0,bootindex=%d", driveCD, order[hypervisor.BootCD]))
	if l.seed != "" {
		a = append(a, "-blockdev", "driver=raw,node-name=seed,read-only=on,file.driver=file,file.locking=off,file.filename="+esc(l.seed),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=seed,addr=%#x", slotSeed))
	}
	if l.waits {
		a = append(a, "-incoming", "defer")
	}
	if l.kernel != "" {
		a = append(a, "-kernel", l.kernel)
		if l.initrd != "" {
			a = append(a, "-initrd", l.initrd)
		}
		if s.Append != "" {
			a = append(a, "-append", s.Append)
		}
	}
	if s.NIC != nil {
		a = append(a, "-netdev", "stream,id=net,server=on,addr.type=unix,addr.path="+esc(l.net),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net,mac=%s,romfile=,addr=%#x", s.NIC.MAC, slotNIC))
	}
	return a
}

// machineArgs say what the machine is. The variables of its UEFI are a disk of
// the VM like others; what is written to it counts as durable at once, as flash
// does, which is why its volume flushes always.
func machineArgs(s hypervisor.Spec, l layout) []string {
	const machine = "pc,usb=off,vmport=off,dump-guest-core=off"
	if s.Vars == nil {
		return []string{"-machine", machine}
	}
	return []string{
		"-blockdev", "driver=raw,node-name=firmware,read-only=on,file.driver=file,file.locking=off,file.filename=" + esc(l.firmware),
		"-blockdev", diskBackend(*s.Vars),
		"-machine", machine + ",pflash0=firmware,pflash1=" + diskNode(s.Vars.Slot),
	}
}

// bootOrder says from which place on each kind of device is tried by the
// firmware. What is not named is tried after what is.
func bootOrder(named []string, kernel bool) map[string]int {
	at := 0
	if kernel {
		at = 1 // QEMU's loader of kernels has taken place 0
	}
	order := make(map[string]int)
	for _, what := range append(slices.Clone(named), hypervisor.BootDisk, hypervisor.BootCD) {
		if _, ok := order[what]; !ok {
			order[what] = at
			at += hypervisor.MaxDisks
		}
	}
	return order
}

// driveCD is what QEMU knows the CD-ROM drive by. Every machine has one, which
// is empty until something is put into it: IDE, which all firmware and all
// installers know, and which cannot come later.
const driveCD = "cd"

// accelArgs: TCG's translation buffer defaults to a size that dwarfs small
// guests; its processor has nothing that emulation makes slow.
func accelArgs(accel string, memoryMiB int) []string {
	if accel == "kvm" {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", fmt.Sprintf("tcg,tb-size=%d", min(max(16, memoryMiB/4), 128)), "-cpu", "Nehalem"}
}

// diskArgs attaches a disk by NBD. The agent may go and come back within
// reconnectDelay without the guest noticing more than a delay.
//
// A failed write stops the machine, which retries it when it goes on: the
// failures of a volume are a full pool, which ends, or a lost epoch, after
// which this machine must not run. A failed read is told to the guest: it is a
// damaged block without a good copy, and waiting would not mend it.
//
// boot is the disk's place in the order in which the firmware tries to start
// from something.
func diskArgs(d hypervisor.Disk, boot int) []string {
	dev := fmt.Sprintf("virtio-blk-pci,drive=%s,id=%s,addr=%#x,bootindex=%d,serial=%s,write-cache=on,werror=stop,rerror=report",
		diskNode(d.Slot), diskDevice(d.Slot), slotFirstDisk+d.Slot, boot, serial(d))
	return []string{"-blockdev", diskBackend(d), "-device", dev}
}

// diskBackend is the side of a disk that its agent serves.
func diskBackend(d hypervisor.Disk) string {
	node := fmt.Sprintf("driver=nbd,node-name=%s,server.type=unix,server.path=%s,export=%s,reconnect-delay=%d,cache.direct=on,cache.no-flush=off,discard=unmap",
		diskNode(d.Slot), esc(d.Socket), esc(d.Export), reconnectDelay)
	if d.ReadOnly {
		node += ",read-only=on"
	}
	return node
}

// diskNode and diskDevice are what QEMU knows a disk's two sides by.
func diskNode(slot int) string   { return fmt.Sprintf("disk%d", slot) }
func diskDevice(slot int) string { return fmt.Sprintf("blk%d", slot) }

// serial is what a guest can find a disk by, whichever slot it has: the start
// of its volume's identity, as long as virtio-blk allows (VIRTIO 1.2, 5.2.6.1).
func serial(d hypervisor.Disk) string {
	return strings.ReplaceAll(d.Volume.String(), "-", "")[:20]
}
