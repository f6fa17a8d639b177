package qemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// The trial that decides about the accelerator: the probe guest boots from an
// image with some work for it to verify. A kernel device that opens may still
// be unable to run a guest, or run it slower than emulation does (nested
// virtualization without hardware support); either shows here within seconds.
const (
	trialSize    = 4 << 20
	trialCounter = 100_000
	trialLimit   = 20 * time.Second // for emulation, which always gets there
	kvmLimit     = 3 * time.Second  // KVM gets this, or as long as emulation took
)

// verdict is the outcome, kept for as long as the computer and QEMU stay the
// same.
type verdict struct {
	Boot   string `json:"boot"`
	Binary string `json:"binary"` // path, size and time of change
	Name   string `json:"name"`
	Why    string `json:"why"`
}

// Accelerator implements hypervisor.Hypervisor. The first call after a boot of
// the computer may take some seconds.
func (h *Hypervisor) Accelerator() (name, why string) {
	h.accelOnce.Do(func() { h.accel, h.why = h.chooseAccelerator() })
	return h.accel, h.why
}

func (h *Hypervisor) chooseAccelerator() (name, why string) {
	if h.cfg.Accelerator != "auto" {
		return h.cfg.Accelerator, "configured"
	}
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return "tcg", "this host offers no hardware virtualization: " + err.Error()
	}
	f.Close()
	cache := filepath.Join(h.cfg.Dir, "accelerator.json")
	now := verdict{Boot: bootID(), Binary: identity(h.cfg.Binary)}
	if b, err := readBounded(cache); err == nil {
		var old verdict
		if json.Unmarshal(b, &old) == nil && old.Boot == now.Boot && old.Binary == now.Binary && now.Boot != "" && (old.Name == "kvm" || old.Name == "tcg") {
			return old.Name, old.Why
		}
	}
	now.Name, now.Why = h.measure()
	if err := writeJSON(cache, now); err != nil {
		h.cfg.Log.Warn("the choice of the accelerator could not be kept", "error", err)
	}
	return now.Name, now.Why
}

func identity(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return path
	}
	return fmt.Sprintf("%s %d %d", path, fi.Size(), fi.ModTime().UnixNano())
}

// measure boots the trial guest with either accelerator.
func (h *Hypervisor) measure() (name, why string) {
	tcg, err := h.trial("tcg", trialLimit)
	limit := max(kvmLimit, tcg)
	if err != nil {
		limit = trialLimit
	}
	kvm, kerr := h.trial("kvm", limit)
	switch {
	case kerr != nil:
		return "tcg", "a trial guest did not run under KVM: " + kerr.Error()
	case err == nil && kvm > tcg:
		return "tcg", fmt.Sprintf("a trial guest took %d ms under KVM, %d ms under TCG", kvm.Milliseconds(), tcg.Milliseconds())
	case err != nil:
		return "kvm", fmt.Sprintf("a trial guest took %d ms under KVM and failed under TCG", kvm.Milliseconds())
	}
	return "kvm", fmt.Sprintf("a trial guest took %d ms under KVM, %d ms under TCG", kvm.Milliseconds(), tcg.Milliseconds())
}

// trial boots the guest and returns how long it took to verify its disk.
func (h *Hypervisor) trial(accel string, limit time.Duration) (time.Duration, error) {
	dir, err := os.MkdirTemp(h.cfg.Dir, "trial-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	d := runDir(dir)
	if err := d.create(); err != nil {
		return 0, err
	}
	box, uid := h.confinement(), h.cfg.UIDBase+uidRange-1
	image := d.path("files", "image")
	content, err := probe.WoundImage(trialSize, trialCounter)
	if err == nil {
		err = os.WriteFile(image, content, 0o600)
	}
	for _, path := range []string{image, d.path("files")} {
		if err == nil && box.uid {
			err = os.Chown(path, uid, uid)
		}
	}
	if err != nil {
		return 0, err
	}
	c := h.jailFor(box, d, uid)
	if accel == "kvm" {
		c.Binds = append(c.Binds, bind{Path: kvmDevice, Device: true, Own: true})
	}
	c.Argv = append([]string{h.cfg.Binary}, accelArgs(accel, 16)...)
	c.Argv = append(c.Argv, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "16", "-snapshot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-blockdev", "driver=raw,node-name=d,read-only=on,file.driver=file,file.locking=off,file.filename="+esc(image),
		"-device", "virtio-blk-pci,drive=d", "-chardev", "stdio,id=s,signal=off", "-serial", "chardev:s")
	if !box.root {
		c.Binds = nil
	}
	if err := writeJSON(d.jailPath(), c); err != nil {
		return 0, err
	}
	return h.timeTrial(box, d, limit)
}

// timeTrial runs the helper until the guest has verified its disk.
func (h *Hypervisor) timeTrial(box sandbox, d runDir, limit time.Duration) (time.Duration, error) {
	cmd := h.helper(box, d)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	stop := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	took, good := time.Duration(0), false
	for sc := bufio.NewScanner(out); sc.Scan() && !good; {
		l, err := probe.ParseLine(sc.Text())
		good = err == nil && l.What == probe.Verified && l.Counter == trialCounter
		took = time.Since(begin)
	}
	late := !stop.Stop()
	cmd.Process.Kill()
	cmd.Wait()
	switch {
	case good:
		return took, nil
	case late:
		return 0, fmt.Errorf("not ready within %v", limit)
	case stderr.Len() > 0:
		return 0, errors.New(firstLine(stderr.String()))
	}
	return 0, errors.New("it ended")
}
