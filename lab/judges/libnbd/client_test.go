//go:build libnbd

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab/judges/expect"
)

const size = 16 << 20

// memory serves a volume of zeroes that is not ours, by nbdkit.
func memory(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("nbdkit"); err != nil {
		t.Skip("not tested: nbdkit is not installed ('make packages' installs it)")
	}
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command("nbdkit", "-f", "-U", socket, "memory", "16M")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return "nbd+unix:///?socket=" + socket
}

// after does something before a step, and stops the client.
func after(steps int, do func()) func() bool {
	n := 0
	return func() bool {
		if n++; n == steps {
			do()
		}
		return n >= steps
	}
}

func TestTheClientIsContentWithAGoodServer(t *testing.T) {
	c := newClient([]string{memory(t)}, size, false, 1)
	c.stop = after(500, func() {})
	if err := c.work(); err != nil {
		t.Fatal(err)
	}
	d := c.did
	if d.writes == 0 || d.zeroes == 0 || d.reads == 0 || d.flushes == 0 || d.statuses == 0 || d.refused != 5 || d.unanswered+d.reconnects != 0 {
		t.Error("it did", d)
	}
}

func TestTheClientSeesAWrongBlock(t *testing.T) {
	for what, spoil := range map[string]func(block []byte, first int){
		"one bit":         func(b []byte, _ int) { b[1000] ^= 1 },
		"another version": func(b []byte, first int) { expect.Fill(b, first, 1<<40) },
		"another block":   func(b []byte, first int) { expect.Fill(b, first+1, 1) },
	} {
		for _, lossy := range []bool{false, true} {
			uri := memory(t)
			c := newClient([]string{uri}, size, lossy, 2)
			c.stop = after(100, func() { vandal(t, uri, spoil) })
			if err := c.work(); err == nil || !strings.HasPrefix(err.Error(), "block 77 reads as") {
				t.Errorf("%s, lossy %v: %v", what, lossy, err)
			}
		}
	}
}

func TestTheClientSeesAWriteThatWasAnsweredAndIsNotThere(t *testing.T) {
	uri := memory(t)
	c := newClient([]string{uri}, size, false, 3)
	c.stop = after(100, func() {
		c.blocks.Sent(77, 1, 1<<40)
		c.blocks.Answered(77, 1, 1<<40, false)
	})
	if err := c.work(); err == nil || !strings.HasPrefix(err.Error(), "block 77 reads as") {
		t.Error(err)
	}
}

func TestTheClientSeesAVolumeOfAnotherSize(t *testing.T) {
	c := newClient([]string{memory(t)}, size/2, false, 4)
	c.stop = after(1, func() {})
	if err := c.work(); err == nil || !strings.Contains(err.Error(), "not 8388608") {
		t.Error(err)
	}
}

// vandal changes block 77 behind the client's back.
func vandal(t *testing.T, uri string, spoil func(block []byte, first int)) {
	const block = 77
	c, err := dial(uri)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	data := c.memory(expect.BlockSize)
	if err := c.wait(c.read(data, block*expect.BlockSize)); err != nil {
		t.Fatal(err)
	}
	spoil(data, block)
	if err := c.wait(c.write(data, block*expect.BlockSize, 0)); err != nil {
		t.Fatal(err)
	}
}
