package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// KeeperName is the hidden subcommand that runs Keeper.
const KeeperName = "lab-host"

// Keeper stands for one computer: it starts `serve` and, being a child
// subreaper (prctl(2)), becomes the parent of every process below it that is
// orphaned, such as a machine that outlives its agent. The tree below it is
// therefore everything that runs on the computer, whatever sessions, groups
// and namespaces it made for itself. It ends when nothing is left.
func Keeper(args []string) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: lab-host DIR COMMAND [ARG...]")
		return 2
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	file, err := register(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	defer os.Remove(file)
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "keeper %d: started %s as process %d\n", os.Getpid(), args[1], cmd.Process.Pid)
	reap(cmd.Process.Pid)
	return 0
}

// reap collects every child until there is none.
func reap(serve int) {
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return
		case pid == serve:
			fmt.Fprintf(os.Stderr, "keeper %d: serve ended: exit %d, signal %d\n", os.Getpid(), st.ExitStatus(), st.Signal())
		}
	}
}

// register notes the keeper under DIR/keepers, with the time the kernel
// started it, so that a number used again is not taken for it.
func register(dir string) (string, error) {
	keepers := filepath.Join(dir, "keepers")
	if err := os.MkdirAll(keepers, 0o700); err != nil {
		return "", err
	}
	p, err := readProc(os.Getpid())
	if err != nil {
		return "", err
	}
	file := filepath.Join(keepers, strconv.Itoa(p.pid))
	return file, replace(file, []byte(p.start))
}

// keepers returns the living keepers of a host.
func (h Host) keepers() []int {
	entries, _ := os.ReadDir(filepath.Join(h.Dir, "keepers"))
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		file := filepath.Join(h.Dir, "keepers", e.Name())
		want, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if p, err := readProc(pid); err != nil || p.start != string(want) || p.state == 'Z' {
			os.Remove(file) // it died with the machine
			continue
		}
		out = append(out, pid)
	}
	return out
}

// launch starts a host's keeper, detached from this process.
func (h Host) launch(binary string) error {
	if err := h.mount(); err != nil {
		return err
	}
	log, err := os.OpenFile(h.Log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer log.Close()
	if err := startIn(h.Netns, log, binary, append([]string{KeeperName, h.Dir, h.program(binary)}, serveArgs(h)...)...); err != nil {
		return holdfast.Errorf(holdfast.IO, "start host %s: %w", h.Name, err)
	}
	return nil
}
