package baddays

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

const backedUp = 24<<20 + 5*4096 // bytes of the volume: no whole clusters of QCOW2

// backing is a volume that is written, zeroed, reverted and backed up.
type backing struct {
	*scene
	rnd  *rand.Rand
	disk []byte // what it should hold
	dir  string
	held [][]byte // at every backup
}

// TestBackups: whatever is done to a volume, every backup of a chain restores to
// what the volume held then; so does one during which the host that wrote the
// volume was killed; and damage is told.
func TestBackups(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	s := newLab(t, 3, lab.DefaultDiskSize)
	a := s.host("a1")
	b := &backing{scene: s, rnd: rand.New(rand.NewPCG(1, 62)), disk: make([]byte, backedUp), dir: filepath.Join(filepath.Dir(a.Dir), "backups")}
	s.done(a, nil, "volume", "create", "data", "--size", fmt.Sprint(backedUp), "--copies", "3")
	b.random(b.disk)
	s.fill(a, "data", b.disk)
	b.backUp("full")
	b.change(a, 20)
	b.backUp("incremental")
	s.done(a, nil, "volume", "snapshot", "data", "here")
	was := bytes.Clone(b.disk)
	b.change(a, 20)
	b.backUp("incremental")
	s.done(a, nil, "volume", "revert", "data", "here")
	b.disk = was
	b.change(a, 3)
	b.backUp("incremental")
	out := s.done(a, nil, "volume", "snapshot", "list", "data", "-o", "name")
	if n := strings.Count(out, "backup-"); n != 1 {
		t.Errorf("a chain keeps the last snapshot alone, and there are: %s", out)
	}
	for i, want := range b.held {
		name := fmt.Sprintf("at-%d", i+1)
		s.done(a, nil, "volume", "restore", b.dir, name, "--at", fmt.Sprint(i+1))
		s.holds(a, name, want)
	}
	raw := filepath.Join(b.dir, "data.raw")
	s.done(a, nil, "volume", "export", "data", raw)
	if got, err := os.ReadFile(raw); err != nil || !bytes.Equal(got, b.disk) {
		t.Errorf("exported, the volume is another: %v", err)
	}
	b.damaged(a)
	b.scheduled(a)
	b.writerIsKilled(a)
}

func (b *backing) random(p []byte) {
	for i := range p {
		p[i] = byte(b.rnd.Uint32())
	}
}

// change writes and zeroes here and there.
func (b *backing) change(h lab.Host, pieces int) {
	b.t.Helper()
	d := b.attach(h, "data")
	defer d.Close()
	for range pieces {
		off := b.rnd.IntN(backedUp/512-512) * 512
		piece := b.disk[off : off+512*(1+b.rnd.IntN(512))]
		var err error
		if b.rnd.IntN(4) == 0 {
			clear(piece)
			err = d.Zero(int64(off), int64(len(piece)))
		} else {
			b.random(piece)
			_, err = d.WriteAt(piece, int64(off))
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := d.Flush(); err != nil {
		b.t.Fatal(err)
	}
}

// backUp backs the volume up to the directory.
func (b *backing) backUp(kind string) {
	b.t.Helper()
	out := b.done(b.host("a1"), nil, "volume", "backup", "data", b.dir+"/")
	if !strings.Contains(out, kind) {
		b.t.Fatalf("not %s: %s", kind, out)
	}
	b.held = append(b.held, bytes.Clone(b.disk))
}

// damaged: a byte is another, and it is said where; such a backup, and what goes
// over it, is not restored.
func (b *backing) damaged(h lab.Host) {
	b.t.Helper()
	if out := b.done(h, nil, "backup", "verify", b.dir); !strings.Contains(out, "of these good: 4") {
		b.t.Errorf("before any damage: %s", out)
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "*.hfb"))
	if err != nil || len(files) != 4 {
		b.t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[1])
	if err != nil {
		b.t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(files[1], bad, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.refused(h, nil, 1, "may be lost", "backup", "verify", b.dir)
	b.refused(h, nil, 1, "does not match its hash", "volume", "restore", b.dir, "bad")
	if err := os.Remove(files[1]); err != nil {
		b.t.Fatal(err)
	}
	b.refused(h, nil, 3, "without it", "volume", "restore", b.dir, "bad")
	if err := os.WriteFile(files[1], good, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if out := b.done(h, nil, "volume", "list", "-o", "name"); strings.Contains(out, "bad") {
		b.t.Errorf("a restore that failed left a volume: %s", out)
	}
}

// scheduled: a host backs up by itself, sealed, and says so when it cannot.
func (b *backing) scheduled(h lab.Host) {
	b.t.Helper()
	key := filepath.Join(b.dir, "key.txt")
	public := b.done(h, nil, "backup", "keygen", key, "-o", "name")
	dir := filepath.Join(b.dir, "not-mounted", "nightly")
	b.done(h, nil, "backup", "schedule", "create", "nightly", "--volumes", "data", "--on", h.Name, "--to", dir, "--every", "1h", "--keep", "last=2", "--recipient", public)
	b.until("the schedule to say what it misses", func() (bool, string) {
		out, _ := b.run(h, nil, "status")
		return strings.Contains(out, "backup schedule nightly failed") && strings.Contains(out, "mounted"), out
	})
	if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
		b.t.Fatal(err)
	}
	b.done(h, nil, "backup", "schedule", "run", "nightly")
	b.until("the schedule to go well", func() (bool, string) {
		out, _ := b.run(h, nil, "backup", "schedule", "list")
		return strings.Contains(out, " ok "), out
	})
	b.refused(h, nil, 6, "--identity", "volume", "restore", dir, "sealed")
	b.done(h, nil, "volume", "restore", dir, "sealed", "--identity", key)
	b.holds(h, "sealed", b.disk)
	b.done(h, nil, "backup", "schedule", "delete", "nightly")
	records := filepath.Join(b.dir, "records.hfb")
	b.refused(h, nil, 6, "--recipient", "cluster", "backup", records)
	b.done(h, nil, "cluster", "backup", records, "--recipient", public)
	if out := b.done(h, nil, "cluster", "backup", "show", records, "--identity", key, "-o", "wide"); !strings.Contains(out, "host 3") || !strings.Contains(out, "authority 1") {
		b.t.Errorf("in the backup of the records is: %s", out)
	}
}

// writerIsKilled kills the host that a backup is read on while it goes on.
func (b *backing) writerIsKilled(h lab.Host) {
	b.t.Helper()
	b.change(h, 3)
	writer := b.host(b.named("data").Writer)
	at := b.rack(b.other(writer.Rack))[0]
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(b.t), "--socket", at.Socket(), "volume", "backup", "data", "-")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := io.CopyN(&got, out, 2<<20); err != nil { // the rest does not fit between them
		b.t.Fatal(err, said.String())
	}
	b.kill(writer.Rack)
	_, cerr := io.Copy(&got, out)
	if err := cmd.Wait(); err != nil || cerr != nil {
		b.t.Fatalf("the backup ended with %v, %v: %s", err, cerr, said.String())
	}
	if !strings.Contains(said.String(), "going on") {
		b.t.Errorf("nothing was said of the loss: %s", said.String())
	}
	b.done(at, &got, "volume", "restore", "-", "after-the-loss")
	b.holds(at, "after-the-loss", b.disk)
	b.start(writer.Rack)
	b.inSync("data")
}
