package cgroup

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/fence"
)

// Config says where the watchdog lives and what it does. Socket and Machines
// are required.
type Config struct {
	Socket   string // where it listens; beside it lies a lock file that holds its process id
	Machines string // directory of the machines
	Cgroup   string // directory of their control groups, or empty
	Action   Action // empty means Pause
	Self     string // program with the subcommand `watchdog`; empty means this one
}

// Watchdog implements fence.Watchdog over a process of its own.
type Watchdog struct {
	cfg Config

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

var _ fence.Watchdog = (*Watchdog)(nil)

// Bounds of waiting for the watchdog's process, which answers at once.
const (
	answerTimeout = 5 * time.Second
	startTimeout  = 10 * time.Second
)

// Start finds the watchdog of this host or starts one. It is not armed by
// this, and one that is armed stays so.
func Start(cfg Config) (*Watchdog, error) {
	if cfg.Action == "" {
		cfg.Action = Pause
	}
	if cfg.Self == "" {
		var err error
		if cfg.Self, err = os.Executable(); err != nil {
			return nil, holdfast.Errorf(holdfast.Unavailable, "find this program: %w", err)
		}
	}
	w := &Watchdog{cfg: cfg}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, w.connect()
}

// Pet implements fence.Watchdog. The first Pet after the watchdog has acted
// arms it again and returns kind Fenced: the machines stay as they are.
func (w *Watchdog) Pet(d time.Duration) error {
	if d < 0 || d > maxPet {
		return holdfast.Errorf(holdfast.Invalid, "a watchdog of %v: use 0 to %v", d, maxPet)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ask(command{pet: d})
}

// Disarm implements fence.Watchdog. The process ends.
func (w *Watchdog) Disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil && Process(w.cfg.Socket) == 0 {
		return nil
	}
	err := w.ask(command{pet: -1})
	w.hangUp()
	return err
}

// Close lets go of the watchdog, which goes on.
func (w *Watchdog) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangUp()
}

// hangUp is called with mu held.
func (w *Watchdog) hangUp() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// ask sends a command; if the watchdog is not there, it starts another one and
// asks that. Called with mu held.
func (w *Watchdog) ask(c command) error {
	if w.conn != nil {
		answer, err := w.exchange(c)
		if err == nil {
			return parseAnswer(answer)
		}
		w.hangUp()
	}
	if err := w.connect(); err != nil {
		return err
	}
	answer, err := w.exchange(c)
	if err != nil {
		w.hangUp()
		return holdfast.Errorf(holdfast.Unavailable, "the watchdog does not answer: %w", err)
	}
	return parseAnswer(answer)
}

func (w *Watchdog) exchange(c command) (string, error) {
	w.conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := io.WriteString(w.conn, c.String()); err != nil {
		return "", err
	}
	return readLine(w.in)
}

// connect finds or starts the process. Called with mu held.
func (w *Watchdog) connect() error {
	limit := time.Now().Add(startTimeout)
	started := false
	for {
		conn, err := net.DialTimeout("unix", w.cfg.Socket, answerTimeout)
		if err == nil {
			w.conn, w.in = conn, bufio.NewReader(conn)
			return nil
		}
		if !started || Process(w.cfg.Socket) == 0 {
			if err := w.spawn(); err != nil {
				return err
			}
			started = true
		}
		if time.Now().After(limit) {
			return holdfast.Errorf(holdfast.Unavailable, "the watchdog did not start: %w", err)
		}
		time.Sleep(20 * time.Millisecond) // until it listens
	}
}

// spawn starts the process, in a session of its own.
func (w *Watchdog) spawn() error {
	cmd := exec.Command(w.cfg.Self, "watchdog", "-socket", w.cfg.Socket, "-machines", w.cfg.Machines,
		"-cgroup", w.cfg.Cgroup, "-action", string(w.cfg.Action))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "start the watchdog: %w", err)
	}
	go cmd.Wait() // reap it, whenever it ends
	return nil
}

// Process returns the process id of the watchdog that listens at socket, 0 if
// there is none.
func Process(socket string) int {
	f, err := os.OpenFile(socket+".lock", os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // nobody holds it
	}
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}
