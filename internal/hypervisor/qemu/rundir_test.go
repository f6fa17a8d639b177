package qemu

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Who has broken out of a guest owns its QEMU's directory of sockets, and may put
// there what leads the agent, whose user may connect to anything, elsewhere.
func TestAReplacedSocketIsNotFollowed(t *testing.T) {
	dir := shortDir(t)
	theirs := filepath.Join(dir, "theirs")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: theirs, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := dial(theirs)
	if err != nil {
		t.Fatalf("a socket is not reached: %v", err)
	}
	c.Close()
	if in, err := l.Accept(); err != nil {
		t.Fatal(err)
	} else {
		in.Close()
	}

	link, file := filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := os.Symlink(theirs, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file} {
		if c, err := dial(path); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("%s: %v, %v; want it refused as no socket", filepath.Base(path), c, err)
		}
	}
	l.SetDeadline(time.Now().Add(-time.Second))
	if c, err := l.Accept(); err == nil {
		t.Errorf("somebody connected through the link: %v", c)
	}
}

func TestAMachineOfAnEarlierProgramHasNoConsole(t *testing.T) {
	d := runDir(shortDir(t))
	if f, err := d.openSerial(); f != nil || err != nil {
		t.Errorf("input: %v, %v; want neither", f, err)
	}
	if _, err := follow(d.serialOut()); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("output: %v; want it said that the machine has to be started anew", err)
	}
}
