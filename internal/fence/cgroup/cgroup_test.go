package cgroup

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast/internal/fence"
	"github.com/holdfast-cloud/holdfast/internal/fence/fencetest"
)

// The test binary stands in for the program. A machine is a file whose name is
// a process id.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "watchdog" {
		os.Exit(Main(os.Args[2:], func(dir string) ([]Victim, error) {
			entries, err := os.ReadDir(dir)
			var list []Victim
			for _, e := range entries {
				pid, _ := strconv.Atoi(e.Name())
				list = append(list, victim(pid))
			}
			return list, err
		}))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"))
}

type victim int

func (v victim) Signal(sig unix.Signal) error { return unix.Kill(int(v), sig) }

type lab struct {
	t       *testing.T
	cfg     Config
	dog     *Watchdog
	machine *exec.Cmd
}

func newLab(t *testing.T, action Action) *lab {
	dir, err := os.MkdirTemp("/tmp", "wd")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, cfg: Config{Socket: filepath.Join(dir, "s"), Machines: filepath.Join(dir, "m"), Action: action}}
	l.machine = exec.Command("sleep", "1000")
	if err := l.machine.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(l.cfg.Machines, fmt.Sprint(l.machine.Process.Pid)), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.dog != nil {
			if err := l.dog.Disarm(); err != nil {
				t.Error(err)
			}
		}
		l.machine.Process.Kill()
		l.machine.Wait()
		if !l.Await(func() bool { return Process(l.cfg.Socket) == 0 }) {
			t.Error("the watchdog did not end")
		}
		os.RemoveAll(dir)
	})
	return l
}

func (l *lab) Run(body func()) { body() }
func (l *lab) Watchdog() fence.Watchdog {
	if l.dog == nil {
		var err error
		if l.dog, err = Start(l.cfg); err != nil {
			l.t.Fatal(err)
		}
	}
	return l.dog
}
func (l *lab) RestartAgent() { l.dog.Close(); l.dog = nil; l.Watchdog() }
func (l *lab) Acted() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.machine.Process.Pid))
	if err != nil {
		return true
	}
	state := b[bytes.LastIndexByte(b, ')')+2]
	return state == 'T' || state == 'Z'
}
func (l *lab) Mend()                { l.machine.Process.Signal(unix.SIGCONT) }
func (l *lab) Pass(d time.Duration) { time.Sleep(d) }
func (l *lab) Short() time.Duration { return 4 * time.Second }
func (l *lab) Await(c func() bool) bool {
	for limit := time.Now().Add(time.Minute); !c(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}

func TestConformance(t *testing.T) {
	fencetest.Run(t, func(t *testing.T) fencetest.Lab { return newLab(t, Pause) })
}

func TestItKillsWhereItIsToldTo(t *testing.T) {
	l := newLab(t, Kill)
	if err := l.Watchdog().Pet(0); err != nil {
		t.Fatal(err)
	}
	if !l.Await(l.Acted) {
		t.Fatal("the machine lives")
	}
}

func TestAWatchdogThatWasKilledIsReplaced(t *testing.T) {
	l := newLab(t, Pause)
	if err := l.Watchdog().Pet(time.Hour); err != nil {
		t.Fatal(err)
	}
	pid := Process(l.cfg.Socket)
	if pid == 0 {
		t.Fatal("there is no watchdog")
	}
	unix.Kill(pid, unix.SIGKILL)
	if !l.Await(func() bool { return Process(l.cfg.Socket) == 0 }) {
		t.Fatal("its lock outlived it")
	}
	if err := l.Watchdog().Pet(time.Hour); err != nil {
		t.Fatal(err)
	}
	if now := Process(l.cfg.Socket); now == 0 || now == pid {
		t.Fatalf("the watchdog is process %d", now)
	}
}

func TestControlGroupsAreUsedWhereTheyExist(t *testing.T) {
	for action, file := range map[Action]string{Pause: "cgroup.freeze", Kill: "cgroup.kill"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "vm", file)
		os.Mkdir(filepath.Dir(path), 0o700)
		os.WriteFile(path, []byte("0"), 0o600)
		strike(action, nil, dir)
		if b, _ := os.ReadFile(path); string(b) != "1" {
			t.Errorf("%s: %s holds %q", action, file, b)
		}
	}
}

func TestWrongCommandsAreRefused(t *testing.T) {
	w := &watch{}
	for _, line := range []string{"", "\n", "pet\n", "pet x\n", "pet -1\n", "pet 99999999999999999999\n", "pet 86400000000001\n", "disarm now\n"} {
		if got, last := w.handle(line); got[:5] != "error" || last {
			t.Errorf("%q: %q, %v", line, got, last)
		}
	}
	if code := Main([]string{"-action", "bark", "-socket", "x", "-machines", "y"}, nil); code != 2 {
		t.Errorf("a wrong action: exit code %d", code)
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add("pet 1000000\n")
	f.Add("disarm\n")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseCommand(line)
		if err != nil {
			return
		}
		if again, err := parseCommand(c.String()); err != nil || again != c {
			t.Errorf("%q became %v, then %v, %v", line, c, again, err)
		}
	})
}
