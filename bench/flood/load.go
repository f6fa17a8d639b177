package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

// one does one request of a load, at random.
func one(disk export.Disk, l load, r *rand.Rand, buf []byte) error {
	op := export.Read
	if l.write {
		op = export.Write
	}
	if err := do(disk, export.Request{Op: op, Off: r.Int64N(disk.Size()/int64(l.size)) * int64(l.size), Length: int64(l.size), Data: buf}); err != nil || !l.flush {
		return err
	}
	return do(disk, export.Request{Op: export.Flush})
}

func do(disk export.Disk, r export.Request) error {
	done := make(chan error, 1)
	r.Done = func(_ *export.Request, err error) { done <- err }
	disk.Submit(&r)
	return <-done
}

func noise(n int, seed uint64) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// measure returns what the requests of a load at depth 1 took, in ms.
func measure(disk export.Disk, l load, length time.Duration) (took []float64, err error) {
	r, buf := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))), noise(l.size, 1)
	for begin := time.Now(); time.Since(begin) < length; {
		at := time.Now()
		if err := one(disk, l, r, buf); err != nil {
			return nil, err
		}
		took = append(took, time.Since(at).Seconds()*1000)
	}
	return took, nil
}

// A flood runs in a process of its own, so that it and what is measured do not
// wait for one another in the same client.
const childArg = "-flood"

// order is what the child is to do, and told what it did.
type order struct {
	Socket      string
	Write       bool
	Size, Depth int
}

type deed struct {
	Bytes   int64
	Seconds float64
}

// child floods the volume at a socket from the moment when it says so until its
// input ends.
func child(args []string, in io.Reader, out io.Writer) error {
	var o order
	if len(args) != 1 {
		return fmt.Errorf("%s ORDER", childArg)
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	disk, err := nbd.Dial("unix", o.Socket, "", nil)
	if err != nil {
		return err
	}
	defer disk.Close()
	fmt.Fprintln(out, "begun")
	var mu sync.Mutex
	var failed error
	var bytes int64
	over := false
	var all sync.WaitGroup
	begin := time.Now()
	for i := range o.Depth {
		all.Go(func() {
			l := load{write: o.Write, size: o.Size}
			r, buf := rand.New(rand.NewPCG(uint64(i), uint64(begin.UnixNano()))), noise(o.Size, uint64(i))
			for {
				err := one(disk, l, r, buf)
				mu.Lock()
				if err != nil {
					failed = err
				} else if !over {
					bytes += int64(o.Size)
				}
				stop := over || failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	_, _ = io.Copy(io.Discard, in)
	mu.Lock()
	over = true
	d := deed{bytes, time.Since(begin).Seconds()}
	mu.Unlock()
	all.Wait()
	if failed != nil {
		return failed
	}
	return json.NewEncoder(out).Encode(d)
}

// warm is how long a flood runs before anything is measured.
const warm = 200 * time.Millisecond

// beside runs f beside a flood of the volume at a socket, and sets its MiB/s.
func beside(command []string, socket string, l load, rate *float64, f func() error) error {
	if l.depth == 0 {
		return f()
	}
	b, err := json.Marshal(order{socket, l.write, l.size, l.depth})
	if err != nil {
		return err
	}
	cmd := exec.Command(command[0], append(command[1:], string(b))...)
	var said failure
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	out := bufio.NewReader(pipe)
	if _, err = out.ReadString('\n'); err == nil {
		time.Sleep(warm)
		err = f()
	}
	in.Close()
	var d deed
	if derr := json.NewDecoder(out).Decode(&d); err == nil {
		err = derr
	}
	if werr := cmd.Wait(); werr != nil {
		return fmt.Errorf("the flood: %w: %s", werr, said.text)
	}
	*rate = float64(d.Bytes) / d.Seconds / (1 << 20)
	return err
}

// failure keeps the beginning of what a child says when it fails.
type failure struct{ text []byte }

// Write implements io.Writer.
func (f *failure) Write(b []byte) (int, error) {
	f.text = append(f.text, b[:min(len(b), 1000-min(len(f.text), 1000))]...)
	return len(b), nil
}
