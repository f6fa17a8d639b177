package probe

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const imageSize = 16 << 20

// newImage writes a fresh image to a file.
func newImage(t *testing.T) string {
	t.Helper()
	head, err := Image(imageSize)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe.img")
	if err := os.WriteFile(path, head, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, imageSize); err != nil {
		t.Fatal(err)
	}
	return path
}

// boot runs the guest on an image until enough says so, then kills it, and
// returns the lines it printed. The deadline only bounds a hang.
func boot(t *testing.T, path string, enough func(Line) bool) []Line {
	t.Helper()
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("not tested: qemu-system-x86_64 is not installed ('make packages' installs it)")
	}
	cmd := exec.Command(qemu, "-accel", "tcg,tb-size=16", "-nodefaults", "-display", "none", "-machine", "pc", "-m", "8",
		"-drive", "if=none,id=d,format=raw,file="+path, "-device", "virtio-blk-pci,drive=d", "-serial", "stdio")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var lines []Line
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		l, err := ParseLine(sc.Text())
		if err != nil {
			t.Fatalf("after %d lines: %v", len(lines), err)
		}
		lines = append(lines, l)
		if enough(l) {
			return lines
		}
	}
	t.Fatalf("the guest ended or hung after %v\n%s", lines, &stderr)
	return nil
}

func reached(n uint32) func(Line) bool {
	return func(l Line) bool { return l.What == Flushed && l.Counter >= n }
}

// inspect reads the data area as the guest left it.
func inspect(t *testing.T, path string) (count, highest uint32) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	counters := make([]uint32, Slots(imageSize))
	for s := range counters {
		off := (FirstBlock + s) * BlockSize
		if counters[s], err = VerifyBlock(b[off:off+BlockSize], uint32(s)); err != nil {
			t.Fatal(err)
		}
	}
	count, highest, err = VerifyHistory(counters)
	if err != nil {
		t.Fatal(err)
	}
	return count, highest
}

func TestTheGuestBootsWritesAndVerifiesAfterAKill(t *testing.T) {
	path := newImage(t)
	first := boot(t, path, reached(20))
	var head []string
	for _, l := range first[:4] {
		head = append(head, l.Text)
	}
	if got, want := strings.Join(head, "; "), "probe start; probe boot verified 0 highest 0; probe ready; flushed 1"; got != want {
		t.Fatalf("a new disk: %s, want %s", got, want)
	}
	if _, highest := inspect(t, path); highest < 20 {
		t.Fatalf("the disk holds counters up to %d after 20 were reported", highest)
	}
	second := boot(t, path, reached(30))
	v := second[1]
	if v.What != Verified || v.Count != v.Counter || v.Counter < 20 || second[3].Counter != v.Counter+1 {
		t.Fatalf("after the kill: %v, then %v", v, second[3])
	}
}

// wind makes the image one of a guest that has reached a counter.
func wind(t *testing.T, path string, counter uint32) {
	t.Helper()
	img, err := WoundImage(imageSize, counter)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheGuestAcceptsWhatGoWroteAndGoesOn(t *testing.T) {
	path := newImage(t)
	wind(t, path, 100_000)
	lines := boot(t, path, reached(100_003))
	if lines[1].Text != "probe boot verified 2048 highest 100000" {
		t.Fatalf("a ring of 100000 counters: %v", lines)
	}
	if _, highest := inspect(t, path); highest < 100_003 {
		t.Fatalf("the disk holds counters up to %d after 100003 were reported", highest)
	}
}

func TestTheGuestFindsDamageAndStops(t *testing.T) {
	slot := SlotOf(500, Slots(imageSize))
	at := int64(FirstBlock+slot) * BlockSize
	for name, damage := range map[string]func(block []byte){
		"a flipped bit":         func(b []byte) { b[3000] ^= 1 },
		"a lost write":          func(b []byte) { clear(b) },
		"a torn write":          func(b []byte) { clear(b[512:]) },
		"garbage where nothing": func(b []byte) { b[0] = 0; b[4095] = 1 },
		"an older round":        func(b []byte) { FillBlock(b, 500-64, SlotOf(500-64, Slots(imageSize))) },
		"a newer counter":       func(b []byte) { FillBlock(b, 500+2048, slot) },
	} {
		t.Run(name, func(t *testing.T) {
			path := newImage(t)
			wind(t, path, 1000)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, BlockSize)
			f.ReadAt(b, at)
			damage(b)
			f.WriteAt(b, at)
			f.Close()
			lines := boot(t, path, func(l Line) bool { return l.What == Halted || l.What == Ready })
			last := lines[len(lines)-1]
			if last.What != Halted || last.Count == 0 || lines[1].What != Corrupt {
				t.Fatalf("the guest said %v", lines)
			}
		})
	}
}
