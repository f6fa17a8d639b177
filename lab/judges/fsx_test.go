package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestTheExerciserIsContentWithAGoodFileSystem(t *testing.T) {
	x, err := exercise(filepath.Join(t.TempDir(), "f"), 1, 400, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"write", "mapped write", "read", "truncate", "punch", "zero", "sync", "reread", "reopen"} {
		if x.did[op] == 0 {
			t.Errorf("no %s among 400 operations: %v", op, x.did)
		}
	}
}

func TestTheExerciserSeesOneWrongByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	x := &exerciser{f: f, rng: rand.New(rand.NewPCG(1, 1)), max: 1 << 20, did: map[string]int{}}
	defer func() { x.f.Close() }()
	if err := x.write(1000, 50000); err != nil {
		t.Fatal(err)
	}
	if err := x.verify(0, 51000); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{3, 1000, 30000, 50999} {
		old := x.want[at]
		if _, err := f.WriteAt([]byte{old ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if err := x.verify(0, 51000); err == nil {
			t.Errorf("a wrong byte at %d was not seen", at)
		}
		if _, err := f.WriteAt([]byte{old}, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(50999); err != nil {
		t.Fatal(err)
	}
	if err := x.verify(0, 10); err == nil {
		t.Error("a byte less was not seen")
	}
}
