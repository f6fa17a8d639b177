package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// fioReport is what is read of fio's JSON.
type fioReport struct {
	Jobs []struct {
		Error int
		Read  struct {
			Total int64 `json:"total_ios"`
		}
		Write struct {
			Total int64 `json:"total_ios"`
			Bytes int64 `json:"io_bytes"`
		}
		Trim struct {
			Total int64 `json:"total_ios"`
		}
	}
}

// fio runs a job in a directory, where it also keeps its state.
func fio(ctx context.Context, dir, uri string, args ...string) (r fioReport, err error) {
	out, err := toolWith(ctx, dir, "", "fio", append([]string{"--name=judge", "--ioengine=nbd", "--uri=" + uri, "--verify=crc32c", "--verify_fatal=1",
		"--allrandrepeat=1", "--output-format=json", "--output=" + filepath.Join(dir, "out.json")}, args...)...)
	b, rerr := os.ReadFile(filepath.Join(dir, "out.json"))
	if rerr != nil {
		return r, errors.Join(err, rerr)
	}
	// fio prints errors in front of its JSON.
	for i := range b {
		if b[i] == '{' {
			if jerr := json.Unmarshal(b[i:], &r); jerr != nil || len(r.Jobs) != 1 {
				return r, errors.Join(err, fmt.Errorf("fio printed no report: %v\n%s\n%s", jerr, tail(string(b)), out))
			}
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, tail(string(b[:i])))
			}
			return r, err
		}
	}
	return r, errors.Join(err, fmt.Errorf("fio printed no report:\n%s\n%s", tail(string(b)), out))
}

// fioVerify writes and verifies in different shapes, without a fault.
func fioVerify(ctx context.Context, c *court) (string, error) {
	size := int64(128 * mib)
	if c.o.quick {
		size = 16 * mib
	}
	v, err := c.volume(ctx, "fio", size, "")
	if err != nil {
		return "", err
	}
	dir := c.path("fio")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var n, read int64
	for i, shape := range [][]string{
		{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--fsync=64"},
		{"--rw=randrw", "--bsrange=512-64k", "--iodepth=32", "--fsync=32"},
		{"--rw=randtrimwrite", "--bs=4k", "--iodepth=1"},
		{"--rw=write", "--bs=1m", "--iodepth=8"},
		{"--rw=randwrite", "--bs=16k", "--iodepth=16", "--verify_backlog=256", "--verify_async=1"},
	} {
		h := c.l.Hosts[i%3]
		r, err := fio(ctx, dir, v.uri(h), append(shape, fmt.Sprintf("--size=%d", size), "--do_verify=1", fmt.Sprintf("--randseed=%d", c.rng.Uint32()))...)
		if err != nil {
			return "", fmt.Errorf("host %s: %w", h.Name, err)
		}
		n, read = n+r.Jobs[0].Write.Total, read+r.Jobs[0].Read.Total
	}
	return fmt.Sprintf("5 shapes, one with trims: %d writes, %d blocks verified", n, read), v.delete(ctx)
}

// fioKills has fio write while the writer's rack is killed, and verify at a
// survivor every block whose write was answered: memory on the other copy is
// enough for that.
func fioKills(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, "fio-kills", "", c.o.cycles, func(w lab.Host) []lab.Host { return []lab.Host{w} })
}

// fioPowerCuts has fio write to a volume that answers only what is on disk,
// while every rack is killed at once.
func fioPowerCuts(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, "fio-cuts", "always", c.someCycles(), func(lab.Host) []lab.Host { return c.l.Hosts })
}

func (c *court) fioCycles(ctx context.Context, name, durability string, cycles int, lost func(lab.Host) []lab.Host) (string, error) {
	size := int64(128 * mib)
	if c.o.quick {
		size = 64 * mib
	}
	v, err := c.volume(ctx, name, size, durability)
	if err != nil {
		return "", err
	}
	var wrote, verified int64
	cut := 0
	for i := range cycles {
		w, r, err := c.fioCycle(ctx, v, i, lost)
		if err != nil {
			return "", fmt.Errorf("cycle %d: %w", i, err)
		}
		wrote, verified = wrote+w.Jobs[0].Write.Total, verified+r
		if w.Jobs[0].Write.Bytes < v.size {
			cut++
		}
	}
	return fmt.Sprintf("%d cycles, %d cut short by the kill: %d writes answered, %d verified", cycles, cut, wrote, verified), v.delete(ctx)
}

// killCommand kills the racks of some hosts. fio runs it after it has noted
// which of its writes were answered; what it notes once the connection is gone
// cannot be used, since it takes failed writes for answered ones.
func (c *court) killCommand(hosts []lab.Host) string {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s lab kill %s --dir %s & ", c.binary, h.Rack, c.l.Dir)
	}
	return b.String() + "wait"
}

// fioCycle is one: write, kill, verify at a survivor or after the start.
func (c *court) fioCycle(ctx context.Context, v *volume, i int, lost func(lab.Host) []lab.Host) (wrote fioReport, verified int64, err error) {
	dir := filepath.Join(c.path(v.name), fmt.Sprint(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return wrote, 0, err
	}
	defer os.RemoveAll(dir)
	at := c.other()
	if err := v.served(ctx, at); err != nil {
		return wrote, 0, err
	}
	job := []string{fmt.Sprintf("--size=%d", v.size), "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16", "--fsync=32", fmt.Sprintf("--randseed=%d", c.rng.Uint32())}
	w, err := v.writer(ctx)
	if err != nil {
		return wrote, 0, err
	}
	dead := lost(w)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_ = v.written(ctx)
		pause(ctx, c.within(time.Duration(v.size/mib)*8*time.Millisecond))
		_ = os.WriteFile(filepath.Join(dir, "now"), nil, 0o600)
	}()
	wrote, err = fio(ctx, dir, v.uri(at), append(job, "--do_verify=0", "--verify_state_save=1", "--trigger-file="+filepath.Join(dir, "now"), "--trigger="+c.killCommand(dead))...)
	if len(wrote.Jobs) != 1 {
		return wrote, 0, err // else it was cut short, which is no fault
	}
	if err := lab.Kill(dead); err != nil { // should it have been done before
		return wrote, 0, err
	}
	verify := func(h lab.Host) error {
		if err := v.served(ctx, h); err != nil {
			return err
		}
		r, err := fio(ctx, dir, v.uri(h), append(job, "--verify_only=1", "--verify_state_load=1")...)
		if err != nil {
			return fmt.Errorf("written at host %s, %d lost, verified at host %s: %w", at.Name, len(dead), h.Name, err)
		}
		verified += r.Jobs[0].Read.Total
		return nil
	}
	if len(dead) < len(c.l.Hosts) {
		if err := verify(c.other(w.Name)); err != nil {
			return wrote, verified, err
		}
	}
	for _, h := range dead {
		if err := c.start(ctx, h); err != nil {
			return wrote, verified, err
		}
	}
	if err := c.whole(ctx); err != nil {
		return wrote, verified, err
	}
	if len(dead) == len(c.l.Hosts) {
		err = verify(c.other())
	}
	return wrote, verified, err
}
