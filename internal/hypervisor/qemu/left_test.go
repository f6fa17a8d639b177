package qemu

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// An agent dies over the medium that it takes out of a drive: the next one takes
// it out.
func TestAMediumThatWasBeingTakenOutIsOut(t *testing.T) {
	l := &lab{t: t, dir: shortDir(t), servers: map[int]*nbdServer{}}
	l.h = newHypervisor(t, l.dir)
	spec := l.Spec(0)
	spec.CD = &hypervisor.Disk{Slot: hypervisor.SlotCD, Volume: holdfast.VolumeID{UUID: holdfast.UUID{9}}, Socket: newServer(t, make([]byte, 4096)).socket(), ReadOnly: true}
	m, err := l.h.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.(*Machine).keepMedium(nil); err != nil {
		t.Fatal(err)
	}
	l.RestartAgent()
	found, err := l.h.Adopt()
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	defer found[0].Kill()
	mon, err := found[0].(*Machine).talking()
	if err != nil {
		t.Fatal(err)
	}
	var drives []struct {
		QDev     string `json:"qdev"`
		Inserted *struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	if err := mon.execute("query-block", nil, &drives, commandTimeout); err != nil {
		t.Fatal(err)
	}
	for _, d := range drives {
		if strings.Contains(d.QDev, driveCD) && d.Inserted != nil {
			t.Errorf("%s lies in the drive", d.Inserted.Node)
		}
	}
}

// A machine that has handed over its memory and stood still since cannot do so
// again, and goes on.
func TestAMemoryIsHandedOverOnce(t *testing.T) {
	l := &lab{t: t, dir: shortDir(t), servers: map[int]*nbdServer{}}
	l.h = newHypervisor(t, l.dir)
	m, err := l.h.Start(l.Spec(0))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	awaitSaid(t, m, "flushed 3")
	if err := m.Pause(); err != nil {
		t.Fatal(err)
	}
	var memory bytes.Buffer
	if err := m.Save(&memory); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(&memory); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "has handed over its memory") {
		t.Errorf("once more: %v", err)
	}
	if err := m.Resume(); err != nil {
		t.Fatal(err)
	}
	awaitSaid(t, m, "flushed 50")
}

// QEMU is another one since the host began: machines are of the kind that they
// were started as.
func TestAKindIsOfTheQEMUThatThereIs(t *testing.T) {
	dir := shortDir(t)
	program := filepath.Join(dir, "qemu")
	install := func(version string, at int64) {
		text := "#!/bin/sh\necho 'QEMU emulator version " + version + "'\n"
		if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(program, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	install("7.2.1", 1)
	h, err := New(Config{Dir: dir, Accelerator: "tcg", Binary: program})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	then := h.Kind()
	m := newMachine(h, "", record{Kind: then}, nil)
	install("8.0.0", 2)
	if now := h.Kind(); !strings.Contains(then, "7.2.1") || !strings.Contains(now, "8.0.0") || m.Kind() != then {
		t.Errorf("first %q, then %q; the machine %q", then, now, m.Kind())
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if now := h.Kind(); now != "" {
		t.Errorf("without QEMU: %q", now)
	}
}
