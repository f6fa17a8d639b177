package qemu

import (
	"os"
	"path/filepath"

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
