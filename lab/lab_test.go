package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// The test's own binary plays the binary of Holdfast: it is the keeper, and a
// host that only answers, but leaves machines behind that outlive it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case KeeperName:
			os.Exit(Keeper(os.Args[2:]))
		case LineName:
			os.Exit(RunLine(os.Args[2:]))
		case "serve":
			if err := serve(os.Args[3]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// serve answers on the socket until it is killed. Two processes that it leaves
// in sessions of their own stand for a machine and its companion.
func serve(file string) error {
	conf, err := config.Load(file)
	if err != nil {
		return err
	}
	b := apitest.New()
	b.Me.Name = conf.Name
	s := httpapi.New(httpapi.Options{Backend: b, Version: "test"})
	if err := s.ServeUnix(conf.Socket); err != nil {
		return err
	}
	for range 2 {
		sh := exec.Command("sh", "-c", "sleep 300 & :")
		sh.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := sh.Run(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "machines"), nil, 0o600); err != nil {
		return err
	}
	select {}
}

// running makes a lab of fake hosts and starts it.
func running(t *testing.T, racks, perRack int) (*Lab, string) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := create(Options{Dir: t.TempDir(), Racks: racks, PerRack: perRack})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Kill(l.Hosts); err != nil {
			t.Error(err)
		}
	})
	start(t, l, binary, l.Hosts)
	return l, binary
}

func start(t *testing.T, l *Lab, binary string, hosts []Host) {
	t.Helper()
	for _, h := range hosts {
		os.Remove(filepath.Join(h.Dir, "machines"))
	}
	if err := l.start(context.Background(), binary, hosts); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		eventually(t, func() bool { _, err := os.Stat(filepath.Join(h.Dir, "machines")); return err == nil })
	}
}

// eventually waits for what must come; the test's own time limit bounds it.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		time.Sleep(5 * time.Millisecond)
	}
}

// expect checks the condition of every host, by its first letter and number of
// processes: "r3 d0" is one that runs with 3 and one that is dead.
func expect(t *testing.T, l *Lab, want string) {
	t.Helper()
	var got []string
	for _, h := range l.Hosts {
		word, n := h.condition()
		got = append(got, fmt.Sprintf("%s%d", word[:1], n))
	}
	if s := strings.Join(got, " "); s != want {
		t.Fatalf("the hosts are %s, want %s", s, want)
	}
}

func TestARackIsKilledWithEverythingThatRunsThereAndNothingElse(t *testing.T) {
	l, binary := running(t, 2, 1)
	expect(t, l, "r3 r3")
	a, err := l.Rack("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := Kill(a); err != nil {
		t.Fatal(err)
	}
	expect(t, l, "d0 r3")
	start(t, l, binary, a)
	expect(t, l, "r3 r3")
}

// Starting a host of which only machines are left starts its agent, which belongs
// to a new keeper while the machines are still below the old one; pulling the
// plug must find both.
func TestMachinesThatOutliveTheirAgentAreFound(t *testing.T) {
	l, binary := running(t, 1, 1)
	eventually(t, func() bool { // a new process has its name only once it has begun its program
		names, err := Programs(l.Hosts)
		return err == nil && strings.Count(strings.Join(names, " "), "sleep") == 2
	})
	ps, err := processes(l.Hosts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.name != "sleep" {
			if err := send(p, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, func() bool { _, n := l.Hosts[0].condition(); return n == 2 })
	expect(t, l, "a2")          // the agent is dead, its machines are not
	eventually(t, func() bool { // its last thread closes its socket, which may be later
		c, err := net.Dial("unix", l.Hosts[0].Socket())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	start(t, l, binary, l.Hosts)
	eventually(t, func() bool {
		names, err := Programs(l.Hosts)
		return err == nil && len(names) == 5 && strings.Count(strings.Join(names, " "), "sleep") == 4
	})
	if err := Kill(l.Hosts); err != nil {
		t.Fatal(err)
	}
	expect(t, l, "d0")
}

// Whoever began a restart is told to end, as by timeout(1): the host does not
// stay down.
func TestARestartThatIsBrokenOffLeavesTheHostRunning(t *testing.T) {
	l, binary := running(t, 2, 1)
	a, err := l.Rack("a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Restart(ctx, binary, a); err == nil {
		t.Error("it said that the host answers, which nobody waited for")
	}
	if err := a[0].answering(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestAFrozenRackDoesNotAnswerUntilItThaws(t *testing.T) {
	l, _ := running(t, 2, 1)
	b, err := l.Rack("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := Freeze(b); err != nil {
		t.Fatal(err)
	}
	expect(t, l, "r3 f3")
	c := client.Socket(b[0].Socket())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Self(ctx); err == nil {
		t.Fatal("a frozen host answered")
	}
	if err := l.Start(context.Background(), "", "b"); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(fmt.Sprint(err), "thaw") {
		t.Errorf("starting a frozen rack: %v", err)
	}
	if err := Thaw(b); err != nil {
		t.Fatal(err)
	}
	expect(t, l, "r3 r3")
	if s, err := c.Self(context.Background()); err != nil || s.Name != "b1" {
		t.Fatalf("after thawing: %+v, %v", s, err)
	}
}

func TestALabIsFoundAgainAndWiped(t *testing.T) {
	home := t.TempDir()
	getenv := func(k string) string { return map[string]string{"HOME": home}[k] }
	l, _ := running(t, 1, 2)
	if err := l.makeCurrent(getenv); err != nil {
		t.Fatal(err)
	}
	if dir := DefaultDir(getenv); dir != l.Dir {
		t.Fatalf("the current lab is %s", dir)
	}
	c, err := client.Connect(context.Background(), client.Choice{Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err := c.Self(context.Background()); err != nil || s.Name != "a1" {
		t.Fatalf("%+v, %v", s, err)
	}
	again, err := Open(l.Dir)
	if err != nil || len(again.Hosts) != 2 || again.Hosts[1] != l.Hosts[1] {
		t.Fatalf("%+v, %v", again, err)
	}
	mine := filepath.Join(l.Dir, "mine")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := again.Down(true, getenv); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(l.Dir); err != nil || len(left) != 1 {
		t.Fatalf("wiping left %v, %v; it must leave what is not the lab's", left, err)
	}
	if _, err := Open(l.Dir); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Fatalf("a wiped lab opens: %v", err)
	}
}

func TestAHostThatCannotStartSaysWhy(t *testing.T) {
	l, err := create(Options{Dir: t.TempDir(), Racks: 1, PerRack: 1})
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Hosts[0].Config(), []byte("rack: a\nnme: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = l.start(context.Background(), binary, l.Hosts)
	if !holdfast.IsKind(err, holdfast.Unavailable) && err == nil || !strings.Contains(err.Error(), `did you mean "name"?`) {
		t.Fatalf("got %v", err)
	}
}

func TestTwoLabsGetTwoNetworks(t *testing.T) {
	one, err := plan(t.TempDir(), 3, 2, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.assign(); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", fmt.Sprintf("%s:%d", one.Hosts[5].Addr, config.PortEtcdPeer))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	two, err := plan(one.Dir, 3, 2, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := two.assign(); err != nil || two.Net == one.Net {
		t.Fatalf("both are 127.%d: %v", two.Net, err)
	}
	if h := two.Hosts[5]; h.Addr != fmt.Sprintf("127.%d.3.2", two.Net) || h.Name != "c2" || h.Rack != "c" {
		t.Fatalf("%+v", h)
	}
}

func TestLabsThatCannotBeAreRefused(t *testing.T) {
	for _, c := range []struct {
		dir            string
		racks, perRack int
	}{{"/tmp/x", 0, 1}, {"/tmp/x", 3, 0}, {"/tmp/x", 1000, 1}, {"/" + strings.Repeat("x", 120), 3, 1}} {
		if _, err := plan(c.dir, c.racks, c.perRack, false); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte(`{"format":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Fatalf("a lab of another format opens: %v", err)
	}
}

// A lab of an earlier version does not run here, but it can be ended.
func TestALabOfAnEarlierVersionIsEnded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	host := filepath.Join(dir, "a1")
	if err := os.MkdirAll(host, 0o700); err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf(`{"format":1,"dir":%q,"net":38,"hosts":[{"name":"a1","rack":"a","addr":"127.38.1.1","dir":%q}],"formed":true}`, dir, host)
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !holdfast.IsKind(err, holdfast.Conflict) || !strings.Contains(err.Error(), "lab down --wipe --dir "+dir) {
		t.Fatalf("it opens, or nobody says what to do: %v", err)
	}
	c := Command(func(string) string { return "" })
	c.SetArgs([]string{"down", "--wipe", "--dir", dir})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("it is still there: %v", err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) (c) S 2 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0"))
	f.Add([]byte("1 (x) Z"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat(1, b); err == nil && (p.state == 0 || p.start == "") {
			t.Fatalf("%q gives %+v", b, p)
		}
	})
}
