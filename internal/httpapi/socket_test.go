package httpapi

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestASocketOfItsOwner: it is its owner's from the beginning, however long its path
// is, and what others make in the meantime is as they want it.
func TestASocketOfItsOwner(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var others sync.WaitGroup
	over := make(chan struct{})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			at := filepath.Join(dir, "beside")
			if err := os.Mkdir(at, 0o755); err != nil {
				t.Error(err)
			}
			if st, err := os.Stat(at); err != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("a directory beside it: %v, %v", st.Mode(), err)
			}
			os.Remove(at)
		}
	})
	path := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)-1))
	for range 200 {
		l, err := listenAlone(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("it is still there: %v", err)
		}
	}
	close(over)
	others.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
