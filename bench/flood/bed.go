package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	volumeBytes = 256 << 20
	diskBytes   = 32 << 30
	patience    = time.Minute
)

// bed is a lab of two hosts with a volume that is measured and two that are
// flooded, one written from the same host and one from the other. All have a
// copy on both hosts' only disks.
type bed struct {
	settings
	self, dir         string
	lab               *lab.Lab
	api               *client.Client
	victim, near, far *volume
	weight            int // of the victim
}

// volume is one volume and where it is offered. What is flooded is not kept open
// here.
type volume struct {
	id, socket string
	disk       *nbd.Client
}

func newBed(ctx context.Context, s settings) (b *bed, err error) {
	b = &bed{settings: s, weight: usualWeight}
	if b.binary, err = filepath.Abs(s.binary); err == nil {
		_, err = os.Stat(b.binary)
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "-binary: %w; build it with 'make build'", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp(s.dir, "hfflood"); err != nil {
		return nil, err
	}
	if err := b.up(ctx); err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

func (b *bed) up(ctx context.Context) (err error) {
	b.lab, err = lab.Up(ctx, lab.Options{Dir: filepath.Join(b.dir, "l"), Racks: 2, PerRack: 1, DiskSize: diskBytes,
		Binary: b.binary, Progress: os.Stderr, Getenv: b.getenv})
	if err != nil {
		return err
	}
	b.api = client.Socket(b.lab.Hosts[0].Socket())
	if b.victim, err = b.volume(ctx, "victim", b.lab.Hosts[0]); err != nil {
		return err
	}
	if b.near, err = b.volume(ctx, "near", b.lab.Hosts[0]); err != nil {
		return err
	}
	if b.far, err = b.volume(ctx, "far", b.lab.Hosts[1]); err != nil {
		return err
	}
	b.near.disk.Close()
	b.far.disk.Close()
	return nil
}

// getenv keeps the user's current lab out of this.
func (b *bed) getenv(key string) string {
	if key == "XDG_STATE_HOME" || key == "HOME" {
		return b.dir
	}
	return ""
}

// flooder is the command that runs a flood.
func (b *bed) flooder() []string { return append(strings.Fields(b.by), b.self, childArg) }

func (b *bed) end() {
	if b.lab != nil {
		if err := b.lab.Down(true, b.getenv); err != nil {
			fmt.Fprintln(os.Stderr, "bench/flood: the lab did not end:", err)
		}
	}
	os.RemoveAll(b.dir)
}

// volume makes a volume of two copies, opens it at a host and fills it with noise.
func (b *bed) volume(ctx context.Context, name string, at lab.Host) (*volume, error) {
	rec, err := b.api.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: volumeBytes, Copies: 2})
	if err != nil {
		return nil, err
	}
	v := &volume{id: rec.ID, socket: at.Export(rec.ID)}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if v.disk, err = nbd.Dial("unix", v.socket, "", nil); err == nil {
			break
		}
		if time.Since(begin) > patience || ctx.Err() != nil {
			return nil, err
		}
	}
	buf := noise(1<<20, 7)
	for off := int64(0); off < volumeBytes; off += int64(len(buf)) {
		copy(buf, noise(4<<10, uint64(off>>20)))
		if _, err := v.disk.WriteAt(buf, off); err != nil {
			return nil, err
		}
	}
	return v, v.disk.Flush()
}

// weigh sets the weight of the volume that is measured.
func (b *bed) weigh(ctx context.Context, w int) error {
	if w == b.weight {
		return nil
	}
	if _, err := b.api.SetVolume(ctx, b.victim.id, v1.VolumeSet{Weight: &w}); err != nil {
		return err
	}
	b.weight = w
	time.Sleep(time.Second) // until the hosts have seen the record
	return nil
}

// shares lets two volumes of one host flood together, by different weights.
func (b *bed) shares(ctx context.Context) (all []share, err error) {
	b.victim.disk.Close()
	length := time.Duration(b.seconds * float64(time.Second))
	for _, f := range floods() {
		for _, w := range []int{usualWeight, 4 * usualWeight} {
			s := share{flood: f, weight: w}
			if err := b.weigh(ctx, w); err != nil {
				return nil, err
			}
			for range b.runs {
				first, second, err := b.together(f, length)
				if err != nil {
					return nil, fmt.Errorf("two floods, %s: %w", f.name, err)
				}
				s.ratio, s.rate = append(s.ratio, first/second), append(s.rate, first+second)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// together floods both volumes of the first host and returns their MiB/s.
func (b *bed) together(f load, length time.Duration) (first, second float64, err error) {
	var begun, all sync.WaitGroup
	var errs [2]error
	var rates [2]float64
	begun.Add(2)
	for i, v := range []*volume{b.victim, b.near} {
		all.Go(func() {
			once := sync.OnceFunc(begun.Done)
			defer once()
			errs[i] = beside(b.flooder(), v.socket, f, &rates[i], func() error {
				once()
				begun.Wait()
				time.Sleep(length)
				return nil
			})
		})
	}
	all.Wait()
	for _, e := range errs {
		if e != nil {
			err = e
		}
	}
	return rates[0], rates[1], err
}
