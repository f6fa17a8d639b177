package image_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/image"
)

// TestWhatIsWrittenAroundThePageCacheIsThere: aligned or not, in any order, by
// several at a time, on a file system that can and on one that cannot.
func TestWhatIsWrittenAroundThePageCacheIsThere(t *testing.T) {
	for name, dir := range map[string]string{"disk": t.TempDir(), "memory": memoryDir(t)} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(dir, "file"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := make([]byte, 4<<20)
			rnd := rand.New(rand.NewPCG(1, 1))
			for i := range want {
				want[i] = byte(rnd.Uint32())
			}
			a := image.WriteAround(f, int64(len(want)))
			const piece = 256 << 10
			write := func(from, skip int) {
				room := make([]byte, piece+8192)
				b := room[skip : skip+copy(room[skip:], want[from:min(from+piece, len(want))])]
				if n, err := a.WriteAt(b, int64(from)); err != nil || n != len(b) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
			var all sync.WaitGroup
			for i := range len(want) / piece {
				all.Go(func() { write(i*piece, i%3*100) }) // of some the memory is not aligned
			}
			all.Wait()
			for range 20 { // nor is the place in the file
				write(rnd.IntN(len(want)), 0)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("there are %d other bytes, %v", len(got), err)
			}
		})
	}
}

// TestAFileThatWasRenamedIsWrittenItself: not another that has its name now.
func TestAFileThatWasRenamedIsWrittenItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := image.WriteAround(f, 8192)
	if _, err := a.WriteAt(bytes.Repeat([]byte{1}, 8192), 0); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "other" {
		t.Errorf("the other file has %d bytes", len(b))
	}
	if b, _ := os.ReadFile(path + ".old"); len(b) != 8192 {
		t.Errorf("the file has %d bytes", len(b))
	}
}

// memoryDir is on a file system in memory, if there is one.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "around")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
