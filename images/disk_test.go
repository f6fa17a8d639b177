package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// files returns a boot sector and a core image as GRUB makes them: the loader
// looks for its rest at a sector that only the installation knows.
func files(coreSize int) (boot, core []byte) {
	boot = bytes.Repeat([]byte{0x90}, sector)
	binary.LittleEndian.PutUint16(boot[510:], 0xaa55)
	return boot, bytes.Repeat([]byte{0xcc}, coreSize)
}

func TestTheFirmwareFindsTheLoaderAndTheLoaderItsRest(t *testing.T) {
	boot, core := files(5*sector + 17)
	b, err := lead(boot, core, 0xdecafbad)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if len(b) != partStart || le.Uint16(b[510:]) != 0xaa55 {
		t.Fatalf("%d bytes, signature %#x", len(b), le.Uint16(b[510:]))
	}
	if at := le.Uint64(b[bootKernel:]); at != 1 {
		t.Errorf("the boot sector loads sector %d", at)
	}
	list := b[sector+coreList:]
	if at, n := le.Uint64(list), le.Uint16(list[8:]); at != 2 || n != 5 {
		t.Errorf("the core loads %d sectors from %d, want 5 from 2: 5 sectors and 17 bytes, less the first", n, at)
	}
	if !bytes.Equal(b[2*sector:sector+len(core)], core[sector:]) {
		t.Error("the core behind its first sector was changed")
	}
}

func TestOneActivePartitionFromTheFirstMiBToTheEnd(t *testing.T) {
	boot, core := files(2 * sector)
	b, err := lead(boot, core, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, le := b[partTable:], binary.LittleEndian
	if p[0] != 0x80 || p[4] != linuxType {
		t.Errorf("status %#x, type %#x", p[0], p[4])
	}
	if first, n := le.Uint32(p[8:]), le.Uint32(p[12:]); int64(first)*sector != partStart || int64(first+n)*sector != diskSize {
		t.Errorf("sectors %d to %d of a disk of %d", first, first+n, diskSize/sector)
	}
	if !bytes.Equal(p[16:64], make([]byte, 48)) {
		t.Error("there are other partitions")
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	boot, core := files(2 * sector)
	for name, bad := range map[string]struct{ boot, core []byte }{
		"no boot sector":           {nil, core},
		"no signature":             {make([]byte, sector), core},
		"a core of one sector":     {boot, core[:sector]},
		"a core into the next MiB": {boot, make([]byte, partStart)},
	} {
		if _, err := lead(bad.boot, bad.core, 1); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestTheFileSystemStaysAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, append(make([]byte, partStart), "a file system"...), 0o600); err != nil {
		t.Fatal(err)
	}
	boot, core := files(3 * sector)
	if err := finish(path, boot, core); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 13)
	if _, err := f.ReadAt(got, partStart); err != nil || string(got) != "a file system" {
		t.Errorf("read %q, %v", got, err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != diskSize {
		t.Errorf("size %v, %v", st.Size(), err)
	}
}
