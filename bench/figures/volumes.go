package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

// clones is how often the image is cloned.
const clones = 5

// sparse is an image of which one block in 256 holds data.
type sparse struct {
	at, size int64
	r        *rand.ChaCha8
}

const (
	dataEvery = 1 << 20
	idleCode  = "\xf4\xeb\xfd" // hlt, and again
)

// Read implements io.Reader.
func (s *sparse) Read(b []byte) (int, error) {
	if s.at >= s.size {
		return 0, io.EOF
	}
	// Up to the end of the piece of data, or of nothing, that at lies in.
	in := s.at % dataEvery
	end := s.at - in + holdfast.BlockSize
	if in >= holdfast.BlockSize {
		end = s.at - in + dataEvery
	}
	b = b[:min(int64(len(b)), end-s.at)]
	if in < holdfast.BlockSize {
		_, _ = s.r.Read(b)
		if s.at == 0 && len(b) >= 512 { // a disk that starts, and does nothing
			copy(b, idleCode)
			b[510], b[511] = 0x55, 0xaa
		}
	} else {
		clear(b)
	}
	s.at += int64(len(b))
	return len(b), nil
}

// clone measures a VM from a large image: linked clone, and process started.
func (m *measurement) clone(ctx context.Context) error {
	size := m.imageGiB << 30
	m.say("importing an image of %d GiB, of which %d MiB are data", m.imageGiB, size/dataEvery*holdfast.BlockSize>>20)
	begin := time.Now()
	if _, err := m.first.ImportImage(ctx, client.NewImage{Name: "large", Size: size}, &sparse{size: size, r: rand.NewChaCha8([32]byte{1})}); err != nil {
		return err
	}
	m.report.add(fmt.Sprintf("import of an image of %d GiB", m.imageGiB), "s", "", []float64{time.Since(begin).Seconds()})
	if err := m.whole(ctx); err != nil {
		return err
	}
	var all []float64
	for i := range clones {
		spec := v1.VMSpec{Name: fmt.Sprintf("large-%d", i+1), Image: "large", MemoryMiB: 32}
		took, err := m.vmRunning(ctx, spec)
		if err != nil {
			return err
		}
		all = append(all, took.Seconds())
		if err := m.first.DeleteVM(ctx, spec.Name, v1.VMRemoval{Force: true}); err != nil {
			return err
		}
		err = m.until(ctx, "the VM to be gone", func(ctx context.Context) (bool, error) {
			_, err := m.first.Volume(ctx, spec.Name)
			return holdfast.IsKind(err, holdfast.NotFound), err
		})
		if err != nil {
			return err
		}
	}
	m.report.add("clone of that image and VM process running", "s", "≤ 1", all)
	return m.first.DeleteImage(ctx, "large")
}

// The volume whose replica is away: its size, how much of it is in use, and
// how often a block is written meanwhile.
const (
	resyncSize  = 1 << 30
	resyncInUse = 128 << 20
	writeEvery  = 3 * time.Millisecond
)

// resync measures what is sent to bring a replica up to date that was away
// while writing went on. The volume has a copy in every rack, so that nobody
// builds another one elsewhere meanwhile.
func (m *measurement) resync(ctx context.Context) error {
	v, err := m.first.CreateVolume(ctx, v1.VolumeSpec{Name: "resync", Size: resyncSize, Copies: racks})
	if err != nil {
		return err
	}
	disk, err := m.attach(ctx, v)
	if err != nil {
		return err
	}
	defer func() { disk.Close() }()
	r := rand.NewChaCha8([32]byte{2})
	buf := make([]byte, 1<<20)
	for at := int64(0); at < resyncInUse; at += int64(len(buf)) {
		_, _ = r.Read(buf)
		if _, err := disk.WriteAt(buf, at); err != nil {
			return err
		}
	}
	if err := disk.Flush(); err != nil {
		return err
	}
	if err := m.inSync(ctx, v); err != nil {
		return err
	}
	before, err := m.first.Activity(ctx, v.ID)
	if err != nil {
		return err
	}
	changed, took, err := m.absence(ctx, v, disk, r)
	if err != nil {
		return err
	}
	after, err := m.first.Activity(ctx, v.ID)
	if err != nil {
		return err
	}
	if after.Epoch != before.Epoch {
		return holdfast.Errorf(holdfast.Unavailable, "the volume was opened anew meanwhile: its counters are void")
	}
	sent := float64(after.ResentBytes - before.ResentBytes)
	bytes := float64(changed) * holdfast.BlockSize
	m.report.add(fmt.Sprintf("changed while a rack was away for %v, and until it was back", m.away), "MiB", "", []float64{bytes / (1 << 20)})
	m.report.add("  sent again", "MiB", "", []float64{sent / (1 << 20)})
	m.report.add("  sent again for each byte changed", "", "≤ 1.2", []float64{sent / bytes})
	m.report.add("  rack started → in sync", "s", "", []float64{took.Seconds()})
	disk.Close()
	return m.first.DeleteVolume(ctx, v.ID)
}

// absence takes a rack away and brings it back, while one block after the
// other is written. It returns how many different ones were, and how long the
// replica took from the rack's start.
func (m *measurement) absence(ctx context.Context, v v1.Volume, disk *nbd.Client, r *rand.ChaCha8) (changed int, took time.Duration, err error) {
	last := m.lab.Hosts[len(m.lab.Hosts)-1]
	if err := lab.Kill([]lab.Host{last}); err != nil {
		return 0, 0, err
	}
	m.say("rack %s is away", last.Rack)
	blocks, block := map[int64]bool{}, make([]byte, holdfast.BlockSize)
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	begin, started, back := time.Now(), make(chan error, 1), time.Time{}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case err := <-started:
			if err != nil {
				return 0, 0, err
			}
		case <-tick.C:
		}
		_, _ = r.Read(block)
		at := int64(r.Uint64()%(resyncInUse/holdfast.BlockSize)) * holdfast.BlockSize
		if _, err := disk.WriteAt(block, at); err != nil {
			return 0, 0, err
		}
		blocks[at] = true
		if back.IsZero() && time.Since(begin) >= m.away {
			back = time.Now()
			go func() { started <- m.lab.Start(ctx, m.binary, last.Rack) }()
		}
		if back.IsZero() || n%50 != 0 {
			continue
		}
		if now, err := m.first.Volume(ctx, v.ID); err == nil && now.State == "ok" {
			return len(blocks), time.Since(back), disk.Flush()
		}
		if time.Since(back) > patience {
			return 0, 0, holdfast.Errorf(holdfast.Unavailable, "the replica was not brought up to date within %v", patience)
		}
	}
}

func (m *measurement) inSync(ctx context.Context, v v1.Volume) error {
	return m.until(ctx, "volume "+v.Name+" to have its copies", func(ctx context.Context) (bool, error) {
		now, err := m.first.Volume(ctx, v.ID)
		return err == nil && now.State == "ok", err
	})
}

// attach opens a volume at the first host's socket.
func (m *measurement) attach(ctx context.Context, v v1.Volume) (disk *nbd.Client, err error) {
	socket := m.lab.Hosts[0].Export(v.ID)
	err = m.until(ctx, "volume "+v.Name+" to be exported", func(context.Context) (bool, error) {
		var err error
		disk, err = nbd.Dial("unix", socket, "", nil)
		return err == nil, err
	})
	return disk, err
}
