package lab

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// paper is a lab that exists on paper only.
func paper(t *testing.T, racks, perRack int) *Lab {
	t.Helper()
	l, err := plan("/nowhere", racks, perRack, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Network = &Network{ID: "hf00000"}
	return l
}

func TestWhatIsBetweenPlaces(t *testing.T) {
	l := paper(t, 3, 2)
	for text, want := range map[string]string{
		"a":     "a1>b1 a1>b2 a1>c1 a1>c2 a2>b1 a2>b2 a2>c1 a2>c2 b1>a1 b1>a2 b2>a1 b2>a2 c1>a1 c1>a2 c2>a1 c2>a2",
		"a1":    "a1>a2 a1>b1 a1>b2 a1>c1 a1>c2 a2>a1 b1>a1 b2>a1 c1>a1 c2>a1",
		"a-b":   "a1>b1 a1>b2 a2>b1 a2>b2 b1>a1 b1>a2 b2>a1 b2>a2",
		"a>b1":  "a1>b1 a2>b1",
		"a1-a2": "a1>a2 a2>a1",
		"a>*":   "a1>b1 a1>b2 a1>c1 a1>c2 a2>b1 a2>b2 a2>c1 a2>c2",
	} {
		lines, err := l.parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, n := range lines {
			for _, w := range l.ways(n) {
				got = append(got, w.From+">"+w.To)
			}
		}
		slices.Sort(got)
		if all := strings.Join(got, " "); all != want {
			t.Errorf("%s is %s, not %s", text, all, want)
		}
	}
	for _, text := range []string{"", "d", "a-a", "a-a1", "a>", ">a", "a-b-c", "a>b>c", "a-d", "*", "*>a"} {
		if lines, err := l.parse(text); err == nil {
			t.Errorf("%q is taken for %v", text, lines)
		}
	}
	if _, _, err := l.parseCut("a:disk"); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a part that there is not: %v", err)
	}
}

func TestTheLastLineCounts(t *testing.T) {
	l := paper(t, 3, 1)
	slow, slower := link.Shape{Delay: time.Millisecond}, link.Shape{Delay: time.Second}
	l.Network.Lines = []Line{{From: "a", To: "*", Shape: slow}, {From: "a", To: "b", Shape: slower}}
	if i := l.lineOf(Way{From: "a1", To: "b1"}); i != 1 {
		t.Errorf("what a sends to b goes over line %d", i)
	}
	if i := l.lineOf(Way{From: "a1", To: "c1"}); i != 0 {
		t.Errorf("what a sends to c goes over line %d", i)
	}
	if i := l.lineOf(Way{From: "b1", To: "a1"}); i != -1 {
		t.Errorf("what b sends to a goes over line %d", i)
	}
}

func TestALabWithoutANetworkCannotBeCut(t *testing.T) {
	l := paper(t, 3, 1)
	l.Network = nil
	for _, err := range []error{l.Cut("a"), l.Heal(""), l.Shape("a", link.Shape{Delay: time.Second})} {
		if !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%v", err)
		}
	}
}

// hosts with a network but without processes.
func networked(t *testing.T, racks int) *Lab {
	t.Helper()
	if err := CanNetns(); err != nil {
		t.Skipf("not tested: %v", err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := create(Options{Dir: t.TempDir(), Racks: racks, PerRack: 1, Netns: true, Binary: binary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.raze(); err != nil {
			t.Error(err)
		}
	})
	if err := l.raise(); err != nil {
		t.Fatal(err)
	}
	return l
}

// echo has a host answer UDP packets, and reach asks whether one of them arrives
// at another host and is answered.
func echo(t *testing.T, h Host, port string) {
	t.Helper()
	var c net.PacketConn
	if err := inside(h.Netns, func() (err error) {
		c, err = net.ListenPacket("udp4", net.JoinHostPort(h.Addr, port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		for b := make([]byte, 100); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// within is how long a packet that is not lost may take on a busy machine, and
// silent how long is waited for one that is.
const (
	within = 5 * time.Second
	silent = 100 * time.Millisecond
)

func reach(t *testing.T, from, to Host, port string, limit time.Duration) (took time.Duration, ok bool) {
	t.Helper()
	var c net.Conn
	if err := inside(from.Netns, func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(to.Addr, port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	_ = c.SetDeadline(begun.Add(limit))
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Read(make([]byte, 100))
	if errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal("an answer that a cut cable cannot give: ", err)
	}
	return time.Since(begun), err == nil
}

func TestCablesAreCutAndHealed(t *testing.T) {
	l := networked(t, 3)
	a, b, c := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	for _, h := range l.Hosts {
		echo(t, h, "9000")
	}
	expect := func(what string, from, to Host, want bool) {
		t.Helper()
		limit := silent
		if want {
			limit = within
		}
		if _, got := reach(t, from, to, "9000", limit); got != want {
			t.Errorf("%s: %s reaches %s: %v", what, from.Name, to.Name, got)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expect("at first", a, b, true)
	do(l.Cut("a"))
	expect("a is cut off", a, b, false)
	expect("a is cut off", c, a, false)
	expect("a is cut off", b, c, true)
	do(l.Heal("a-b"))
	expect("healed to b", a, b, true)
	expect("healed to b", a, c, false)
	do(l.Heal(""))
	expect("healed", c, a, true)

	// What is asked arrives, and is not answered; a cut in one direction alone.
	do(l.Cut("b>a"))
	expect("b does not reach a", a, b, false)
	expect("b does not reach a", b, c, true)
	all, err := l.Connections()
	do(err)
	for _, n := range all {
		if want := map[bool]string{true: "cut", false: "ok"}[n.From == "b" && n.To == "a"]; n.State != want {
			t.Errorf("from %s to %s it is said to be %s", n.From, n.To, n.State)
		}
	}
	do(l.Heal(""))

	// UDP is nobody's part.
	do(l.Cut("a:kv"))
	expect("the control plane of a is cut", a, b, true)
	again, err := Open(l.Dir)
	do(err)
	if got := again.stateOf(Way{From: "a1", To: "b1"}); got != "kv cut" {
		t.Errorf("a lab that is opened anew says %q", got)
	}
	do(again.Heal("a-b:kv"))
	if n := len(again.Network.Cuts); n != 2 {
		t.Errorf("%d ways are still cut, not 2", n)
	}
}

func TestABadLineIsSlowAndGoesAway(t *testing.T) {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("not tested: %v", err)
	}
	l := networked(t, 3)
	a, b, c := l.Hosts[0], l.Hosts[1], l.Hosts[2]
	echo(t, b, "9000")
	echo(t, c, "9000")
	const delay = 60 * time.Millisecond
	if err := l.Shape("a-b", link.Shape{Delay: delay, Rate: 1_000_000}); err != nil {
		t.Fatal(err)
	}
	if took, ok := reach(t, a, b, "9000", within); !ok || took < 2*delay {
		t.Errorf("there and back took %v (%v), with %v each way", took, ok, delay)
	}
	if _, ok := reach(t, a, c, "9000", within); !ok {
		t.Error("a does not reach c, which has no bad line")
	}
	if err := l.Cut("a>b"); err != nil {
		t.Fatal(err)
	}
	if _, ok := reach(t, a, b, "9000", 2*delay+silent); ok {
		t.Error("a bad line that is cut still carries")
	}
	if err := errors.Join(l.Heal(""), l.Shape("a-b", link.Shape{})); err != nil {
		t.Fatal(err)
	}
	if _, ok := reach(t, a, b, "9000", within); !ok {
		t.Error("a does not reach b without the line")
	}
	all, err := l.Connections()
	if err != nil || slices.ContainsFunc(all, func(c Connection) bool { return c.Line != nil }) {
		t.Errorf("%v, %v", all, err)
	}
	if n := len(l.lineProcesses()); n != 1 {
		t.Errorf("%d processes carry lines", n)
	}
	if err := l.raze(); err != nil {
		t.Fatal(err)
	}
	if n := len(l.lineProcesses()); n != 0 {
		t.Errorf("%d processes outlive the network", n)
	}
	if left, _ := filepath.Glob(filepath.Join(netnsDir, l.Network.ID+"-*")); len(left) > 0 {
		t.Errorf("%v outlive the network", left)
	}
}

// What broke off half-way is finished by the next try, and removed as well.
func TestANetworkThatIsHalfThereIsFinished(t *testing.T) {
	l := networked(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	if err := unix.Unmount(filepath.Join(netnsDir, b.Netns), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := l.raise(); err != nil {
		t.Fatal(err)
	}
	echo(t, b, "9000")
	if _, ok := reach(t, a, b, "9000", within); !ok {
		t.Error("a does not reach b")
	}
	other := networked(t, 2) // beside the first, with the same addresses
	if other.Network.ID == l.Network.ID {
		t.Errorf("two labs have namespaces %s", l.Network.ID)
	}
	echo(t, other.Hosts[1], "9000") // the same address and port: they would collide
	if _, ok := reach(t, other.Hosts[0], other.Hosts[1], "9000", within); !ok {
		t.Error("in the second lab a does not reach b")
	}
}
