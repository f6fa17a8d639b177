package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// cycles are how a volume is written while hosts are lost, again and again.
type cycles struct {
	name       string
	durability string
	n          int
	iscsi      bool // by portals, not by sockets
	cut        bool // every rack is lost, not the writer's only
}

// fioKills has fio write while the writer's rack is killed, and verify at a
// survivor every block whose write was answered: memory on the other copy is
// enough for that.
func fioKills(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, cycles{name: "fio-kills", n: c.o.cycles})
}

// fioPowerCuts has fio write to a volume that answers only what is on disk,
// while every rack is killed at once.
func fioPowerCuts(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, cycles{name: "fio-cuts", durability: "always", n: c.someCycles(), cut: true})
}

// fioISCSIKills is fioKills by iSCSI.
func fioISCSIKills(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, cycles{name: "fio-iscsi-kills", n: c.o.cycles, iscsi: true})
}

// fioISCSIPowerCuts is fioPowerCuts by iSCSI.
func fioISCSIPowerCuts(ctx context.Context, c *court) (string, error) {
	return c.fioCycles(ctx, cycles{name: "fio-iscsi-cuts", durability: "always", n: c.someCycles(), iscsi: true, cut: true})
}

func (c *court) fioCycles(ctx context.Context, cy cycles) (string, error) {
	size := int64(128 * mib)
	if c.o.quick {
		size = 64 * mib
	}
	v, err := c.volume(ctx, cy.name, size, cy.durability)
	if err != nil {
		return "", err
	}
	k := &fioKill{v: v, way: socket{v}, cut: cy.cut}
	remove := v.delete
	if cy.iscsi {
		p, err := v.export(ctx)
		if err != nil {
			return "", err
		}
		k.way, remove = p, p.delete
	}
	defer func() { k.way.close() }()
	for i := range cy.n {
		if err := k.cycle(ctx, i); err != nil {
			return "", fmt.Errorf("cycle %d: %w", i, err)
		}
	}
	return fmt.Sprintf("%d cycles, %d cut short by the kill: %d writes answered, %d trimmed, %d verified", cy.n, k.short, k.wrote, k.trimmed, k.verified), remove(ctx)
}

// fioKill is fio, a volume that it writes, and what came of it.
type fioKill struct {
	v   *volume
	way way
	cut bool

	short                    int
	wrote, trimmed, verified int64
}

// killCommand kills the racks of some hosts. fio runs it after it has noted
// which of its writes were answered; what it notes once the connection is gone
// cannot be used, since it takes failed writes for answered ones.
func (k *fioKill) killCommand(at lab.Host, hosts []lab.Host) string {
	c, end := k.v.c, ""
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s lab kill %s --dir %s & ", c.binary, h.Rack, c.l.Dir)
		if h.Name == at.Name {
			end = "; " + k.way.gone()
		}
	}
	return b.String() + "wait" + strings.TrimSuffix(end, "; ")
}

// job is what fio writes in a cycle: blocks of any size, or in every fourth
// cycle each block is trimmed before.
func (k *fioKill) job(i int) []string {
	job := []string{fmt.Sprintf("--size=%d", k.v.size), fmt.Sprintf("--randseed=%d", k.v.c.rng.Uint32()), "--fsync=32"}
	if i%4 == 3 {
		return append(job, "--rw=randtrimwrite", "--bs=4k", "--iodepth=1")
	}
	return append(job, "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16")
}

// cycle is one: write, kill, verify at a survivor or after the start.
func (k *fioKill) cycle(ctx context.Context, i int) error {
	c := k.v.c
	dir := filepath.Join(c.path(k.v.name), fmt.Sprint(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at, job := c.other(), k.job(i)
	dead, err := k.write(ctx, dir, at, job)
	if err != nil {
		return err
	}
	verify := func(h lab.Host) error {
		uri, err := k.way.open(ctx, h)
		if err != nil {
			return err
		}
		r, err := fio(ctx, dir, uri, append(job, "--verify_only=1", "--verify_state_load=1")...)
		if err != nil {
			return fmt.Errorf("written at host %s, %d lost, verified at host %s: %w", at.Name, len(dead), h.Name, err)
		}
		k.verified += r.Jobs[0].Read.Total
		return nil
	}
	if !k.cut {
		if err := verify(c.other(dead[0].Name)); err != nil {
			return err
		}
	}
	for _, h := range dead {
		if err := c.start(ctx, h); err != nil {
			return err
		}
	}
	if err := c.whole(ctx); err != nil || !k.cut {
		return err
	}
	return verify(c.other())
}

// write has fio write at a host until hosts are lost, and tells which.
func (k *fioKill) write(ctx context.Context, dir string, at lab.Host, job []string) ([]lab.Host, error) {
	uri, err := k.way.open(ctx, at)
	if err != nil {
		return nil, err
	}
	w, err := k.v.writer(ctx)
	if err != nil {
		return nil, err
	}
	dead := []lab.Host{w}
	if k.cut {
		dead = k.v.c.l.Hosts
	}
	now := filepath.Join(dir, "now")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_ = k.v.written(ctx)
		pause(ctx, k.v.c.within(time.Duration(k.v.size/mib)*8*time.Millisecond))
		_ = os.WriteFile(now, nil, 0o600)
	}()
	wrote, err := fio(ctx, dir, uri, append(job, "--do_verify=0", "--verify_state_save=1", "--trigger-file="+now, "--trigger="+k.killCommand(at, dead))...)
	if len(wrote.Jobs) != 1 {
		return nil, err // else it was cut short, which is no fault
	}
	k.wrote += wrote.Jobs[0].Write.Total
	k.trimmed += wrote.Jobs[0].Trim.Total
	if wrote.Jobs[0].Write.Bytes < k.v.size {
		k.short++
	}
	return dead, lab.Kill(dead) // should it not have been done before
}
