// Command backup measures backups and QCOW2 files, in a lab of one rack: an
// incremental backup after a part of a volume changed beside a full one, and
// import, export and compressed export beside `qemu-img convert` and `sync`. What is
// compared is run in turns, and medians are compared: on a machine that does
// other things, too, ratios mean something and times little.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

type bench struct {
	binary, dir string
	size        int64 // of the volume
	piece       int64 // bytes of a change
	image       int64 // of the QCOW2 files
	runs        int
	host        lab.Host
}

func main() {
	b := &bench{}
	flag.StringVar(&b.binary, "binary", "bin/holdfast", "the program")
	flag.StringVar(&b.dir, "dir", "", "where the lab and the files are; none: a temporary directory")
	flag.Int64Var(&b.size, "size", 10<<30, "bytes of the volume that is backed up")
	flag.Int64Var(&b.piece, "piece", 64<<10, "bytes of each change; 1 % of the volume is changed, in random places")
	flag.Int64Var(&b.image, "image", 1<<30, "bytes of the disk of QCOW2 files")
	flag.IntVar(&b.runs, "runs", 3, "how often each is run")
	flag.Parse()
	if err := b.run(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func (b *bench) run() (err error) {
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "backup-bench"); err != nil {
			return err
		}
		defer os.RemoveAll(b.dir)
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	at := filepath.Join(b.dir, "lab")
	gib := (3*b.size+4*b.image)>>30 + 8
	if out, err := exec.Command(b.binary, "lab", "up", "--dir", at, "--racks", "1", "--disk-gib", fmt.Sprint(gib)).CombinedOutput(); err != nil {
		return fmt.Errorf("lab up: %w: %s", err, out)
	}
	defer func() {
		out, derr := exec.Command(b.binary, "lab", "down", "--dir", at, "--wipe").CombinedOutput()
		if derr != nil && err == nil {
			err = fmt.Errorf("lab down: %w: %s", derr, out)
		}
	}()
	l, err := lab.Open(at)
	if err != nil {
		return err
	}
	b.host = l.Hosts[0]
	if err := b.backups(); err != nil {
		return err
	}
	return b.images()
}

// holdfast runs the program and returns what it printed and how long it took.
func (b *bench) holdfast(args ...string) (string, time.Duration, error) {
	return timed(exec.Command(b.binary, append([]string{"--socket", b.host.Socket()}, args...)...))
}

func timed(cmd *exec.Cmd) (string, time.Duration, error) {
	var said strings.Builder
	cmd.Stderr = &said
	begun := time.Now()
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, said.String())
	}
	return string(out), time.Since(begun), err
}

// backups makes a full and an incremental backup in turns.
func (b *bench) backups() error {
	out, _, err := b.holdfast("volume", "create", "data", "--size", fmt.Sprint(b.size), "--copies", "1", "-o", "json")
	if err != nil {
		return err
	}
	var v struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return err
	}
	disk, err := nbd.Dial("unix", b.host.Export(v.ID), "", nil)
	if err != nil {
		return err
	}
	defer disk.Close()
	rnd := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 1<<20)
	for off := int64(0); off < b.size; off += int64(len(buf)) {
		blend(rnd, buf)
		if _, err := disk.WriteAt(buf[:min(int64(len(buf)), b.size-off)], off); err != nil {
			return err
		}
	}
	if err := disk.Flush(); err != nil {
		return err
	}
	var fullTimes, incrTimes []time.Duration
	var changed, length int64
	for range b.runs {
		dir := filepath.Join(b.dir, "backups") + "/"
		_, full, err := b.holdfast("volume", "backup", "data", dir, "--full")
		if err != nil {
			return err
		}
		fullTimes = append(fullTimes, full)
		n, err := b.change(rnd, disk)
		if err != nil {
			return err
		}
		out, incr, err := b.holdfast("volume", "backup", "data", dir, "--incremental", "-o", "json")
		if err != nil {
			return err
		}
		var made []struct {
			Length int64 `json:"length"`
		}
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			return err
		}
		incrTimes = append(incrTimes, incr)
		changed, length = changed+n, length+made[0].Length
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	full, incr := median(fullTimes), median(incrTimes)
	fmt.Printf("volume of %d MiB, 1 %% changed in pieces of %d KiB, medians of %d\n", b.size>>20, b.piece>>10, b.runs)
	fmt.Printf("  full backup         %8.2f s  %6.0f MiB/s\n", full.Seconds(), float64(b.size>>20)/full.Seconds())
	fmt.Printf("  incremental backup  %8.2f s  %6.2f %% of the full one's time (aim: at most 3)\n", incr.Seconds(), 100*incr.Seconds()/full.Seconds())
	fmt.Printf("  bytes of it         %8.3f of the bytes changed (aim: at most 1.1)\n", float64(length)/float64(changed))
	return nil
}

// blend is data of which about half can be compressed.
func blend(rnd *rand.Rand, b []byte) {
	for i := 0; i < len(b); i += 8 {
		v := rnd.Uint64()
		if i/4096%2 == 1 {
			v &= 0x0101
		}
		for k := range min(8, len(b)-i) {
			b[i+k] = byte(v >> (8 * k))
		}
	}
}

// change writes random bytes over 1 % of the volume, and returns how many blocks'
// bytes differ: a place may be met twice.
func (b *bench) change(rnd *rand.Rand, disk *nbd.Client) (int64, error) {
	buf := make([]byte, b.piece)
	places := map[int64]bool{}
	for int64(len(places))*b.piece < b.size/100 {
		off := rnd.Int64N(b.size/b.piece) * b.piece
		places[off] = true
		for i := range buf {
			buf[i] = byte(rnd.Uint32())
		}
		if _, err := disk.WriteAt(buf, off); err != nil {
			return 0, err
		}
	}
	return int64(len(places)) * b.piece, disk.Flush()
}

// pair is something that Holdfast and qemu-img do in turns.
type pair struct {
	what       string
	ours, qemu func() (time.Duration, error)
	aim        string
}

// images imports and exports beside qemu-img.
func (b *bench) images() error {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		fmt.Println("qemu-img is not installed: nothing to stand beside")
		return nil
	}
	path := func(name string) string { return filepath.Join(b.dir, name) }
	if err := b.makeRaw(path("disk.raw")); err != nil {
		return err
	}
	if _, _, err := timed(exec.Command("qemu-img", "convert", "-O", "qcow2", path("disk.raw"), path("disk.qcow2"))); err != nil {
		return err
	}
	if _, _, err := b.holdfast("image", "import", path("disk.qcow2"), "--name", "disk", "--copies", "1"); err != nil {
		return err
	}
	// What Holdfast says it has written or imported is on the disk; qemu-img leaves
	// it in memory, so its file is synced within its time. Removing the files
	// belongs to nobody's.
	qemu := func(args ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			defer os.Remove(path("theirs"))
			_, d, err := timed(exec.Command("qemu-img", append([]string{"convert"}, args...)...))
			if err != nil {
				return 0, err
			}
			_, synced, err := timed(exec.Command("sync", path("theirs")))
			return d + synced, err
		}
	}
	export := func(args ...string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			defer os.Remove(path("ours.qcow2"))
			_, d, err := b.holdfast(append([]string{"image", "export", "disk", path("ours.qcow2")}, args...)...)
			return d, err
		}
	}
	n := 0
	for _, p := range []pair{
		{"import", func() (time.Duration, error) {
			n++
			name := fmt.Sprintf("i%d", n)
			_, d, err := b.holdfast("image", "import", path("disk.qcow2"), "--name", name, "--copies", "1")
			if err == nil {
				_, _, err = b.holdfast("image", "delete", name)
			}
			return d, err
		}, qemu("-O", "raw", path("disk.qcow2"), path("theirs")), "1"},
		{"export", export(), qemu("-O", "qcow2", path("disk.raw"), path("theirs")), "1"},
		{"compressed export", export("--compress"), qemu("-c", "-O", "qcow2", path("disk.raw"), path("theirs")), "3"},
	} {
		var ours, theirs []time.Duration
		for range b.runs {
			d, err := p.ours()
			if err != nil {
				return err
			}
			ours = append(ours, d)
			if d, err = p.qemu(); err != nil {
				return err
			}
			theirs = append(theirs, d)
		}
		o, q := median(ours), median(theirs)
		fmt.Printf("QCOW2 %-18s %8.2f s, qemu-img convert and sync %8.2f s: %5.2f × as fast (aim: at least %s)\n", p.what, o.Seconds(), q.Seconds(), q.Seconds()/o.Seconds(), p.aim)
	}
	return nil
}

func (b *bench) makeRaw(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rnd := rand.New(rand.NewPCG(2, 2))
	buf := make([]byte, 1<<20)
	for off := int64(0); off < b.image; off += int64(len(buf)) {
		if off>>20%4 == 3 { // a quarter is holes
			if _, err := f.Seek(int64(len(buf)), io.SeekCurrent); err != nil {
				return err
			}
			continue
		}
		blend(rnd, buf)
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Truncate(b.image)
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
