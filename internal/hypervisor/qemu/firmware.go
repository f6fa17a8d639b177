package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// UEFI firmware as Debian's and Ubuntu's package ovmf installs it: flash of 4
// MiB, of which variables take 528 KiB. The variant with secure boot needs a
// machine with system management mode, which these machines have not.
const (
	firmwareDir  = "/usr/share/OVMF"
	firmwareCode = "OVMF_CODE_4M.fd"
	firmwareVars = "OVMF_VARS_4M.fd"
	maxFirmware  = 8 << 20 // bytes, of either
)

// UEFI reports whether this host has firmware for machines with UEFI. It looks
// anew each time, since it may be installed meanwhile.
func (h *Hypervisor) UEFI() bool {
	_, err := h.firmware(firmwareCode)
	if err == nil {
		_, err = h.firmware(firmwareVars)
	}
	return err == nil
}

// firmware returns the path of a part of the firmware.
func (h *Hypervisor) firmware(name string) (string, error) {
	path, err := filepath.EvalSymlinks(filepath.Join(h.cfg.Firmware, name))
	if err != nil {
		return "", holdfast.Errorf(holdfast.Unavailable, "this host has no UEFI firmware: %w; install it (Debian and Ubuntu: apt install ovmf)", err)
	}
	return path, nil
}

// UEFIVars returns what the variables of a machine's UEFI are at first.
func (h *Hypervisor) UEFIVars() ([]byte, error) {
	path, err := h.firmware(firmwareVars)
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(path)
	if err == nil && fi.Size() > maxFirmware {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s has %d bytes; firmware has at most %d", path, fi.Size(), maxFirmware)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "read the UEFI firmware: %w", err)
	}
	return b, nil
}

// The registers by which the IDE controller of these machines (PIIX3, at bus 0,
// device 1, function 1) listens at the ports of its two channels, and the bit.
const (
	ideAddress = 0x80000000 | 1<<11 | 1<<8 // for the port that chooses a register
	ideTimings = 0x40
	ideListen  = 0x80008000 // both channels: the register of each has 16 bits
)

// openIDE has the IDE controller listen, which a BIOS does and OVMF does not:
// guests that look at the bit (Linux) would see no CD-ROM drive. It stays through
// resets of the machine. The guest has not run yet.
func openIDE(mon *monitor) error {
	for _, line := range []string{fmt.Sprintf("o /w 0xcf8 %#x", ideAddress|ideTimings), fmt.Sprintf("o /w 0xcfc %#x", ideListen)} {
		var said string
		if err := mon.execute("human-monitor-command", map[string]any{"command-line": line}, &said, commandTimeout); err != nil {
			return err
		}
		if said != "" {
			return holdfast.Errorf(holdfast.Unavailable, "QEMU does not let the CD-ROM drive be seen: %s", strings.TrimSpace(said))
		}
	}
	return nil
}
