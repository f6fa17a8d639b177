package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// The verdicts.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// patience bounds a judge, and every wait for something that must happen. It
// is generous: what is judged is whether, never how fast.
const patience = 2 * time.Minute

// judge is one program of others, or several together, and what it is asked.
type judge struct {
	name  string
	needs []string // programs
	long  bool     // not in the quick run, unless it is asked for by name
	// try lets it judge. It says in a few words what was done, with figures;
	// an error is a verdict against the product unless it is a skip.
	try func(ctx context.Context, c *court) (said string, err error)
}

// skip is why a judge could not judge.
type skip struct{ why string }

func (s skip) Error() string { return s.why }

// judges returns all of them, in the order in which they are heard.
func judges() []judge {
	return []judge{
		{"nbdinfo", []string{"nbdinfo", "qemu-io"}, false, nbdinfo},
		{"nbdinfo-tls", []string{"nbdinfo", "openssl"}, false, nbdinfoTLS},
		{"nbd-client", []string{"nbd-client"}, false, nbdClient},
		{"nbdcopy", []string{"nbdcopy", "cmp"}, false, nbdcopy},
		{"qemu-img", []string{"qemu-img", "cmp"}, false, qemuImg},
		{"qemu-io", []string{"qemu-io"}, false, qemuIO},
		{"qemu-img-compare", []string{"qemu-io", "qemu-img"}, false, sameOperations},
		{"libnbd", nil, false, libnbdModel},
		{"fio-verify", []string{"fio"}, false, fioVerify},
		{"fio-kills", []string{"fio", "nbdinfo"}, false, fioKills},
		{"fio-power-cuts", []string{"fio", "nbdinfo"}, true, fioPowerCuts},
		{"fio-iscsi-kills", []string{"fio", "nbdinfo", "qemu-storage-daemon"}, false, fioISCSIKills},
		{"fio-iscsi-power-cuts", []string{"fio", "nbdinfo", "qemu-storage-daemon"}, true, fioISCSIPowerCuts},
		{"libnbd-kills", nil, true, libnbdKills},
		{"libnbd-power-cuts", nil, false, libnbdPowerCuts},
		{"blkverify-kills", []string{"qemu-io", "qemu-img"}, false, blkverifyKills},
		{"quorum-kills", []string{"qemu-io", "qemu-img"}, true, quorumKills},
		{"fsx-ext4", []string{"nbdfuse", "losetup", "mkfs.ext4", "e2fsck", "fstrim", "fusermount3"}, false, fsxExt4},
		{"fsx-xfs", []string{"nbdfuse", "losetup", "mkfs.xfs", "xfs_repair", "fstrim", "fusermount3"}, false, fsxXFS},
		{"fsx-ext4-kills", []string{"qemu-storage-daemon", "losetup", "mkfs.ext4", "e2fsck", "fstrim"}, false, fsxExt4Kills},
		{"fsx-xfs-kills", []string{"qemu-storage-daemon", "losetup", "mkfs.xfs", "xfs_repair", "fstrim"}, true, fsxXFSKills},
		{"damaged-files", []string{"nbdcopy"}, false, damagedFiles},
		{"damaged-simulated", []string{"go"}, false, damagedSimulated},
		{"nbd-tester-client", nil, false, func(context.Context, *court) (string, error) {
			return "", skip{"the test client of the NBD project is in no package of Debian's"}
		}},
	}
}

// judgeAll brings the lab up, hears every judge and ends the lab.
func judgeAll(ctx context.Context, o options, tell func(result)) ([]result, error) {
	c, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	var out []result
	bad := false
	for _, j := range judges() {
		if !o.only.MatchString(j.name) {
			continue
		}
		r := result{j.name, skipped, "it takes longer than the quick run has", 0}
		if !o.quick || !j.long || o.only.String() != "" {
			r = j.hear(ctx, c)
		}
		bad = bad || r.Verdict == failed
		out = append(out, r)
		tell(r)
	}
	return out, c.close(bad && o.keep)
}

func (j judge) hear(ctx context.Context, c *court) result {
	r := result{Judge: j.name, Verdict: passed}
	for _, p := range j.needs {
		if path, err := exec.LookPath(p); err != nil || path == "" {
			r.Verdict, r.Said = skipped, p+" is not installed here ('make judges' installs what Debian has)"
			return r
		}
	}
	begin := time.Now()
	said, err := func() (string, error) {
		if err := c.ready(ctx); err != nil {
			return "", fmt.Errorf("before it began: %w", err)
		}
		return j.try(ctx, c)
	}()
	r.Seconds, r.Said = time.Since(begin).Seconds(), said
	var s skip
	switch {
	case errors.As(err, &s):
		r.Verdict, r.Said = skipped, s.why
	case err != nil:
		r.Verdict, r.Said = failed, fmt.Sprintf("%v (seed %d)", err, c.o.seed)
	}
	return r
}
