package cluster

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of the records. They are far above what a cluster needs and keep a
// mistake from growing.
const (
	MaxCopies    = 8        // replicas that a volume may want
	maxKeys      = 256      // data keys of one volume: its own and those of the clones it comes from
	maxReplicas  = 32       // replicas of one volume, stale ones included
	maxCPUs      = 1024     // of one VM
	maxMemoryMiB = 16 << 20 // of one VM: 16 TiB
	maxText      = 256      // bytes of addresses and other short texts
)

// bad makes the error of a record that may not be written.
func bad(what, id, format string, args ...any) error {
	return holdfast.Errorf(holdfast.Invalid, "%s %s: %w", what, id, fmt.Errorf(format, args...))
}

func checkHost(h *Host) error {
	switch {
	case h.ID.IsZero():
		return bad("host", h.Name, "it has no identifier")
	case holdfast.CheckName("host", h.Name) != nil:
		return holdfast.CheckName("host", h.Name)
	case holdfast.CheckName("rack", h.Domain.Rack) != nil:
		return holdfast.CheckName("rack", h.Domain.Rack)
	case h.Domain.Site != "" && holdfast.CheckName("site", h.Domain.Site) != nil:
		return holdfast.CheckName("site", h.Domain.Site)
	case h.DrainSeconds < 0 || h.DrainSeconds > MaxDrainSeconds:
		return bad("host", h.Name, "%d seconds for a guest to shut down: 0 to %d are allowed", h.DrainSeconds, MaxDrainSeconds)
	}
	for _, s := range []string{h.Addr, h.APIAddr, h.Peer, h.Client, h.CertKey} {
		if len(s) > maxText {
			return bad("host", h.Name, "the address or key %.40q… has %d bytes, at most %d are allowed", s, len(s), maxText)
		}
	}
	return nil
}

func checkAlive(a *Alive) error {
	if a.Host.IsZero() {
		return bad("alive", "?", "it names no host")
	}
	return nil
}

func checkDisk(d *Disk) error {
	switch {
	case d.ID.IsZero():
		return bad("disk", d.Path, "it has no identifier")
	case d.Host.IsZero():
		return bad("disk", d.Path, "it belongs to no host")
	case d.Size < 0:
		return bad("disk", d.Path, "its size is %d bytes", d.Size)
	case d.Remove && !d.Evacuate:
		return bad("disk", d.Path, "it is to be removed and not to be evacuated")
	case d.Successor == d.ID:
		return bad("disk", d.Path, "it is to succeed itself")
	}
	return nil
}

func checkVolume(v *Volume) error {
	const what = "volume"
	if v.ID.IsZero() {
		return bad(what, v.Name, "it has no identifier")
	}
	if err := holdfast.CheckName(what, v.Name); err != nil {
		return err
	}
	switch {
	case v.Blocks == 0 || v.Blocks > holdfast.MaxVolumeBlocks:
		return bad(what, v.Name, "%d blocks of 4 KiB: 1 to %d are allowed", v.Blocks, uint64(holdfast.MaxVolumeBlocks))
	case v.Copies < 1 || v.Copies > MaxCopies:
		return bad(what, v.Name, "%d copies: 1 to %d are allowed", v.Copies, MaxCopies)
	case v.Min < 1 || v.Min > v.Copies:
		return bad(what, v.Name, "at least %d of %d copies in sync: 1 to %d are allowed", v.Min, v.Copies, v.Copies)
	case v.Durability != OnFlush && v.Durability != Always:
		return bad(what, v.Name, "durability %q: %q and %q are allowed", v.Durability, OnFlush, Always)
	case v.Reads != "" && v.Reads != Leased && v.Reads != Confirmed:
		return bad(what, v.Name, "reads %q: %q and %q are allowed", v.Reads, Leased, Confirmed)
	case v.Epoch > holdfast.MaxEpoch:
		return bad(what, v.Name, "epoch %d is above %d: this volume cannot be opened again; copy it to a new one", v.Epoch, holdfast.MaxEpoch)
	}
	if v.Shared && (v.Image || !v.VM.IsZero()) {
		return bad(what, v.Name, "it is shared and an image or the disk of a VM")
	}
	if err := v.Limits.Check(); err != nil {
		return bad(what, v.Name, "%w", err)
	}
	if err := CheckWeight(v.Weight); err != nil {
		return bad(what, v.Name, "%w", err)
	}
	if err := checkKeys(v); err != nil {
		return err
	}
	if err := checkForced(v); err != nil {
		return err
	}
	return checkReplicas(v)
}

// checkKeys refuses keys of which the first is not the volume's own, or two of
// one volume.
func checkKeys(v *Volume) error {
	switch {
	case v.Compression != "" && v.Compression != "fast" && v.Compression != "auto":
		return bad("volume", v.Name, "compression %q: fast, auto or none are allowed", v.Compression)
	case len(v.Keys) > maxKeys:
		return bad("volume", v.Name, "%d data keys, at most %d are allowed: it is a clone of too long a line of clones", len(v.Keys), maxKeys)
	case len(v.Keys) > 0 && v.Keys[0].Volume != v.ID:
		return bad("volume", v.Name, "its first data key is that of another volume")
	}
	seen := make(map[holdfast.VolumeID]bool)
	for _, k := range v.Keys {
		if err := k.Check(); err != nil {
			return bad("volume", v.Name, "%w", err)
		}
		if seen[k.Volume] {
			return bad("volume", v.Name, "it has two data keys of volume %s", k.Volume.Short())
		}
		seen[k.Volume] = true
	}
	return nil
}

// checkReplicas refuses a replica that is listed twice or names no host.
func checkReplicas(v *Volume) error {
	if n := len(v.InSync) + len(v.Others); n > maxReplicas {
		return bad("volume", v.Name, "%d replicas, at most %d are allowed", n, maxReplicas)
	}
	if n := len(v.Moving); n > maxReplicas {
		return bad("volume", v.Name, "%d replicas that are to move, at most %d are allowed", n, maxReplicas)
	}
	if r := v.Release; r != nil && (len(r.Go) == 0 || len(r.Keep) == 0 || len(r.Go)+len(r.Keep) > maxReplicas) {
		return bad("volume", v.Name, "%d replicas to be let go and %d to be kept: at least one of each, and at most %d are allowed", len(r.Go), len(r.Keep), maxReplicas)
	}
	seen := make(map[holdfast.ReplicaID]bool)
	for _, list := range [][]Replica{v.InSync, v.Others} {
		for _, r := range list {
			if r.ID.IsZero() || r.Host.IsZero() || r.Disk.IsZero() {
				return bad("volume", v.Name, "replica %s lacks its identifier, host or disk", r.ID)
			}
			if seen[r.ID] {
				return bad("volume", v.Name, "replica %s is listed twice", r.ID)
			}
			seen[r.ID] = true
		}
	}
	return nil
}

func checkVM(v *VM) error {
	const what = "vm"
	if v.ID.IsZero() {
		return bad(what, v.Name, "it has no identifier")
	}
	if err := holdfast.CheckName(what, v.Name); err != nil {
		return err
	}
	switch {
	case v.CPUs < 1 || v.CPUs > maxCPUs:
		return bad(what, v.Name, "%d CPUs: 1 to %d are allowed", v.CPUs, maxCPUs)
	case v.MemoryMiB < 1 || v.MemoryMiB > maxMemoryMiB:
		return bad(what, v.Name, "%d MiB of memory: 1 to %d are allowed", v.MemoryMiB, maxMemoryMiB)
	case v.Power != On && v.Power != Stopped:
		return bad(what, v.Name, "power %q: %q and %q are allowed", v.Power, On, Stopped)
	case v.Isolation != IsolationPause && v.Isolation != IsolationOff && v.Isolation != IsolationLeave:
		return bad(what, v.Name, "isolation %q: %q, %q and %q are allowed", v.Isolation, IsolationPause, IsolationOff, IsolationLeave)
	case v.Priority < 0 || v.Priority > 2:
		return bad(what, v.Name, "priority %d: 0, 1 and 2 are allowed", v.Priority)
	}
	for _, p := range v.Publish {
		if p.Port < 1 || p.Port > 65535 || p.GuestPort < 1 || p.GuestPort > 65535 {
			return bad(what, v.Name, "published port %d to %d: 1 to 65535 are allowed", p.Port, p.GuestPort)
		}
	}
	if err := CheckBoot(v.Boot); err != nil {
		return bad(what, v.Name, "%w", err)
	}
	if err := checkVMDisks(v); err != nil {
		return err
	}
	return checkVMSnapshots(v)
}

func checkMachine(m *Machine) error {
	if m.VM.IsZero() || m.Host.IsZero() {
		return bad("machine", m.VM.String(), "it lacks its VM or host")
	}
	return nil
}

func checkIncident(i *Incident) error {
	ok := i.ID != "" && len(i.ID) <= 128 && strings.Trim(i.ID, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
	if !ok {
		return bad("incident", "", "the identifier %.40q: 1 to 128 of a-z, 0-9, '-' and '.' are allowed", i.ID)
	}
	return nil
}

func checkJoinCode(j *JoinCode) error {
	if b, err := hex.DecodeString(j.Hash); err != nil || len(b) != 32 || strings.ToLower(j.Hash) != j.Hash {
		return holdfast.Errorf(holdfast.Invalid, "a join code's hash is 64 lower case hexadecimal digits, not %d characters", len(j.Hash))
	}
	if j.Rack != "" {
		return holdfast.CheckName("rack", j.Rack)
	}
	return nil
}

func checkCluster(c *Cluster) error {
	if c.ID.IsZero() {
		return bad("cluster", c.Name, "it has no identifier")
	}
	if c.Format != Format {
		return bad("cluster", c.Name, "its format is %d; this build writes %d", c.Format, Format)
	}
	return holdfast.CheckName("cluster", c.Name)
}
