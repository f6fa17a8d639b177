package qemu

import (
	"encoding/binary"
	"io"
	"os"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// TestAMachineHasAScreen: it is spoken to as RFC 6143 says, until it tells its size.
func TestAMachineHasAScreen(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, probeSpec(newProbeServer(t))).(*Machine)
	for range 2 { // side by side
		c, err := m.Screen()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		read := func(n int) []byte {
			b := make([]byte, n)
			if _, err := io.ReadFull(c, b); err != nil {
				t.Fatal(err)
			}
			return b
		}
		if v := string(read(12)); v != "RFB 003.008\n" {
			t.Fatalf("it says %q", v)
		}
		io.WriteString(c, "RFB 003.008\n")
		if kinds := read(int(read(1)[0])); len(kinds) != 1 || kinds[0] != 1 {
			t.Fatalf("kinds of security %v, not none", kinds)
		}
		c.Write([]byte{1})
		if r := binary.BigEndian.Uint32(read(4)); r != 0 {
			t.Fatalf("refused: %d", r)
		}
		c.Write([]byte{1}) // shared
		init := read(24)
		if w, h := binary.BigEndian.Uint16(init), binary.BigEndian.Uint16(init[2:]); w < 320 || h < 200 {
			t.Fatalf("a screen of %d by %d", w, h)
		}
	}
	if err := os.Remove(m.dir.screen()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Screen(); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("of a machine without one: %v", err)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Screen(); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("of a machine that is off: %v", err)
	}
}
