package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	fioVolume = "torture-fio"
	fioJobs   = 2
	fioSize   = 8 << 20 // of each job
	fioRate   = 120     // requests of a job a second
	// A host may be away for as long as a fault and its repair last; a machine's
	// disk waits as long, too.
	fioReconnect = 3600 // seconds
)

// fioLoad is fio, which writes a volume and verifies what it wrote, round after
// round, at one host. QEMU's storage daemon stands between, as QEMU does for a
// machine: it connects again and repeats what was not answered. The volume answers
// only what is on disk ('durability: always'), so that nothing that was answered may
// ever be missing.
type fioLoad struct {
	dir    string
	socket string
	daemon *exec.Cmd
	gone   chan struct{} // the daemon has ended
	stop   context.CancelFunc
	done   chan struct{} // the rounds have ended
	rng    *rand.Rand

	mu     sync.Mutex
	ending bool
	result FioResult
}

// FioResult is what fio did.
type FioResult struct {
	Rounds   int      `json:"rounds"`
	Writes   int64    `json:"writes"`
	Trims    int64    `json:"trims"`
	Verified int64    `json:"reads_verified"`
	Refused  []string `json:"refused,omitempty"` // rounds that ended with an error that is no wrong byte
	Wrong    []string `json:"wrong,omitempty"`
}

// startFio makes the volume and starts the first round.
func (t *torture) startFio(ctx context.Context) (*fioLoad, error) {
	v, err := t.cloud.haveVolume(ctx, v1.VolumeSpec{Name: fioVolume, Size: fioJobs * fioSize, Durability: "always"})
	if err != nil {
		return nil, err
	}
	f := &fioLoad{dir: filepath.Join(t.o.Lab.Dir, "fio"), rng: rand.New(rand.NewPCG(t.o.Seed, 0x66696f)), gone: make(chan struct{}), done: make(chan struct{})}
	f.socket = filepath.Join(f.dir, "s")
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "fio: %w", err)
	}
	at := t.o.Lab.Hosts[f.rng.IntN(len(t.o.Lab.Hosts))]
	err = t.cloud.until(ctx, time.Minute, "the volume of fio to be exported", func(context.Context) (bool, string, error) {
		_, err := os.Stat(at.Export(v.ID))
		return err == nil, "", err
	})
	if err == nil {
		err = f.serve(ctx, t, at, v.ID)
	}
	if err != nil {
		return nil, err
	}
	t.say("fio works at host %s", at.Name)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go f.rounds(run)
	return f, nil
}

// serve starts the storage daemon and waits until it listens.
func (f *fioLoad) serve(ctx context.Context, t *torture, at lab.Host, id string) error {
	_ = os.Remove(f.socket)
	f.daemon = exec.Command("qemu-storage-daemon",
		"--blockdev", fmt.Sprintf("driver=nbd,node-name=n,server.type=unix,server.path=%s,reconnect-delay=%d,discard=unmap", at.Export(id), fioReconnect),
		"--nbd-server", "addr.type=unix,max-connections=16,addr.path="+f.socket,
		"--export", "type=nbd,id=e,node-name=n,name=fio,writable=on")
	var said bytes.Buffer
	f.daemon.Stderr = &said
	if err := f.daemon.Start(); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "qemu-storage-daemon: %w; 'make packages' installs it", err)
	}
	go func() {
		_ = f.daemon.Wait() // how it ended does not matter, and that it did is seen
		close(f.gone)
	}()
	err := t.cloud.until(ctx, time.Minute, "qemu-storage-daemon to listen", func(context.Context) (bool, string, error) {
		select {
		case <-f.gone:
			return false, "", stop{holdfast.Errorf(holdfast.Unavailable, "qemu-storage-daemon ended: %s", strings.TrimSpace(said.String()))}
		default:
		}
		_, err := os.Stat(f.socket)
		return err == nil, "", err
	})
	if err != nil {
		_ = f.daemon.Process.Kill()
	}
	return err
}

// rounds lets fio write and verify until it is told to end.
func (f *fioLoad) rounds(ctx context.Context) {
	defer close(f.done)
	for ctx.Err() == nil {
		f.mu.Lock()
		ending, n := f.ending, f.result.Rounds
		f.mu.Unlock()
		if ending {
			return
		}
		r, err := f.round(ctx, n)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		f.result.Rounds++
		f.result.take(r, err)
		f.mu.Unlock()
		if err != nil {
			rest(ctx, time.Second)
		}
	}
}

// fioAnswer is what is read of fio's JSON.
type fioAnswer struct {
	Jobs []struct {
		Error int
		Read  struct {
			Total int64 `json:"total_ios"`
		}
		Write struct {
			Total int64 `json:"total_ios"`
		}
		Trim struct {
			Total int64 `json:"total_ios"`
		}
	}
}

// eilseq is what fio ends with if it read other bytes than it had written.
const eilseq = 84

func (r *FioResult) take(a fioAnswer, err error) {
	wrong := false
	for _, j := range a.Jobs {
		r.Writes += j.Write.Total
		r.Trims += j.Trim.Total
		r.Verified += j.Read.Total
		wrong = wrong || j.Error == eilseq
	}
	switch {
	case err == nil:
	case wrong || strings.Contains(err.Error(), "verify: bad"):
		r.Wrong = append(r.Wrong, fmt.Sprintf("volume %s, round %d of fio: %v", fioVolume, r.Rounds, err))
	case len(r.Refused) < 20:
		r.Refused = append(r.Refused, fmt.Sprintf("round %d: %v", r.Rounds, err))
	}
}

// round writes all of the volume and verifies it, in one of several shapes.
func (f *fioLoad) round(ctx context.Context, n int) (a fioAnswer, err error) {
	shape := [][]string{
		{"--rw=randwrite", "--bs=4k", "--iodepth=8", "--fsync=64"},
		{"--rw=randtrimwrite", "--bs=4k", "--iodepth=1"},
		{"--rw=randrw", "--bsrange=512-32k", "--iodepth=8", "--fsync=32"},
		{"--rw=randwrite", "--bs=16k", "--iodepth=4", "--verify_backlog=64"},
	}[n%4]
	out := filepath.Join(f.dir, "out.json")
	args := append([]string{"--name=torture", "--ioengine=nbd", "--uri=nbd+unix:///fio?socket=" + f.socket, "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
		fmt.Sprintf("--numjobs=%d", fioJobs), fmt.Sprintf("--size=%d", fioSize), fmt.Sprintf("--offset_increment=%d", fioSize), fmt.Sprintf("--rate_iops=%d", fioRate),
		"--allrandrepeat=1", fmt.Sprintf("--randseed=%d", f.rng.Uint32()), "--output-format=json", "--output=" + out}, shape...)
	cmd := exec.CommandContext(ctx, "fio", args...)
	cmd.Dir = f.dir
	said, err := cmd.CombinedOutput()
	b, rerr := os.ReadFile(out)
	if rerr != nil {
		return a, errors.Join(err, rerr)
	}
	at := bytes.IndexByte(b, '{') // it prints errors in front of its JSON
	if at < 0 || json.Unmarshal(b[at:], &a) != nil {
		return a, errors.Join(err, holdfast.Errorf(holdfast.Invalid, "fio printed no report: %.300q", b))
	}
	if err != nil {
		err = fmt.Errorf("%w: %.300s %.300s", err, bytes.TrimSpace(b[:at]), bytes.TrimSpace(said))
	}
	return a, err
}

// wrong is what fio read that was not what it had written.
func (f *fioLoad) wrong() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.result.Wrong...)
}

// finish lets the last round come to its end.
func (f *fioLoad) finish(ctx context.Context) error {
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wholeWithin):
		return holdfast.Errorf(holdfast.Unavailable, "fio did not come to the end of a round within %v", wholeWithin)
	}
}

// kill ends fio and the daemon.
func (f *fioLoad) kill() {
	f.stop()
	<-f.done
	_ = f.daemon.Process.Kill()
	<-f.gone
	_ = os.RemoveAll(f.dir) // the lab's directory is removed without it
}
