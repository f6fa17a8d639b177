package lab

import (
	"os"
	"path/filepath"
	"testing"
)

// TestALabKeepsItsNetworkWhileItsHostsAreDown: nothing listens there, and another lab
// still gets another one; when the first lab is gone its network is free again.
func TestALabKeepsItsNetworkWhileItsHostsAreDown(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	made := func() *Lab {
		l := &Lab{Dir: t.TempDir(), Hosts: []Host{{Name: "a1", Rack: "a"}}}
		if err := os.WriteFile(filepath.Join(l.Dir, "lab.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.assign(); err != nil {
			t.Fatal(err)
		}
		return l
	}
	seen := map[int]string{}
	for range 100 { // of 200: by chance alone some would meet
		l := made()
		if other := seen[l.Net]; other != "" {
			t.Fatalf("127.%d is of the labs in %s and %s", l.Net, other, l.Dir)
		}
		seen[l.Net] = l.Dir
		again := &Lab{Dir: l.Dir, Hosts: l.Hosts}
		if err := again.assign(); err != nil || again.Net != l.Net {
			t.Fatalf("a lab that had 127.%d gets 127.%d: %v", l.Net, again.Net, err)
		}
	}
}
