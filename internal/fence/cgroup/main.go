package cgroup

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Action is what the watchdog does to machines.
type Action string

// The actions.
const (
	Pause Action = "pause" // SIGSTOP, or cgroup.freeze
	Kill  Action = "kill"  // SIGKILL, or cgroup.kill
)

// Victim is a process of a machine.
type Victim interface {
	// Signal sends sig if the process is still the same one.
	Signal(sig unix.Signal) error
}

// Main is the hidden subcommand `watchdog`: it runs until it is disarmed. The
// processes to act upon are found by victims at the moment of acting, under
// the machines' directory. It returns the exit code.
func Main(args []string, victims func(machines string) ([]Victim, error)) int {
	fs := flag.NewFlagSet("watchdog", flag.ContinueOnError)
	socket := fs.String("socket", "", "where to listen")
	machines := fs.String("machines", "", "directory of the machines")
	group := fs.String("cgroup", "", "directory of the machines' control groups")
	action := fs.String("action", string(Pause), "pause or kill")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	act := Action(*action)
	if *socket == "" || *machines == "" || act != Pause && act != Kill {
		fmt.Fprintln(os.Stderr, "watchdog: -socket, -machines and -action pause|kill are needed")
		return 2
	}
	// Nobody shall take the memory of the one who watches; without the right
	// to say so it runs as everybody else.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10)
	w := &watch{clock: clock.System{}, over: make(chan struct{}), act: func() {
		list, err := victims(*machines)
		if err != nil {
			fmt.Fprintln(os.Stderr, "watchdog:", err)
		}
		strike(act, list, *group)
	}}
	if err := w.run(*socket); err != nil {
		fmt.Fprintln(os.Stderr, "watchdog:", err)
		return 1
	}
	return 0
}

// strike acts on every machine: the groups first, which reach all descendants.
func strike(act Action, victims []Victim, group string) {
	file, sig := "cgroup.freeze", unix.SIGSTOP
	if act == Kill {
		file, sig = "cgroup.kill", unix.SIGKILL
	}
	if group != "" {
		files, _ := filepath.Glob(filepath.Join(group, "*", file))
		for _, f := range files {
			if err := os.WriteFile(f, []byte("1"), 0); err != nil {
				fmt.Fprintln(os.Stderr, "watchdog:", err)
			}
		}
		if act == Pause && len(files) > 0 {
			return // frozen; a stop on top would have to be undone apart
		}
	}
	for _, v := range victims {
		if err := v.Signal(sig); err != nil {
			fmt.Fprintln(os.Stderr, "watchdog:", err)
		}
	}
}

// watch is the watchdog itself.
type watch struct {
	clock clock.Clock
	act   func()
	over  chan struct{} // closed when disarmed and to end

	mu       sync.Mutex
	armed    bool
	deadline time.Duration
	fired    bool
	timer    clock.Timer
}

// run serves the socket until disarmed.
func (w *watch) run(socket string) error {
	lock, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another watchdog is there: %w", err)
	}
	if err := lock.Truncate(0); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(lock, "%d\n", os.Getpid()); err != nil {
		return err
	}
	os.Remove(socket)
	old := unix.Umask(0o177)
	ln, err := net.Listen("unix", socket)
	unix.Umask(old)
	if err != nil {
		return err
	}
	go func() {
		<-w.over
		ln.Close()
	}()
	for {
		conn, err := ln.Accept()
		if err != nil {
			select {
			case <-w.over:
				return nil
			default:
				return err
			}
		}
		go w.serve(conn)
	}
}

// serve answers one agent.
func (w *watch) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(io.LimitReader(conn, 1<<62))
	for {
		line, err := readLine(in)
		if err != nil {
			return
		}
		answer, last := w.handle(line)
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
		if last {
			w.end()
			return
		}
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.over:
	default:
		close(w.over)
	}
}

// handle does one command.
func (w *watch) handle(line string) (answer string, last bool) {
	c, err := parseCommand(line)
	if err != nil {
		return "error " + err.Error() + "\n", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.armed = c.pet >= 0; !w.armed {
		return "ok\n", true
	}
	w.deadline = w.clock.Now() + c.pet
	w.timer = w.clock.AfterFunc(c.pet, w.due)
	if w.fired {
		w.fired = false
		return "fired\n", false
	}
	return "ok\n", false
}

// due acts if the deadline has really passed by the clock that runs on while
// the computer sleeps.
func (w *watch) due() {
	w.mu.Lock()
	left := w.deadline - w.clock.Now()
	if !w.armed || w.fired {
		w.mu.Unlock()
		return
	}
	if left > 0 {
		w.timer = w.clock.AfterFunc(left, w.due)
		w.mu.Unlock()
		return
	}
	w.fired = true
	w.mu.Unlock()
	w.act()
}

// readLine reads a line of at most maxLine bytes.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for len(line) < maxLine {
		b, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		line = append(line, b)
		if b == '\n' {
			return string(line), nil
		}
	}
	return "", io.ErrShortBuffer
}
