package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab/link"
)

// LineName is the hidden subcommand that runs RunLine.
const LineName = "lab-line"

// RunLine is the process that carries what the lab's lines hold back. It lives in
// the router's namespace until it is killed.
func RunLine(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: lab-line DIR")
		return 2
	}
	file, err := register(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "line:", err)
		return 1
	}
	defer os.Remove(file)
	return link.Run(args[0])
}

func (l *Lab) lineDir() string { return filepath.Join(l.Dir, "line") }

// lineProcesses returns the living processes of RunLine, of which there is one
// or none.
func (l *Lab) lineProcesses() []int { return Host{Dir: l.lineDir()}.keepers() }

// haveLine has the process carry some lines; it is started with the first.
func (l *Lab) haveLine(specs []link.Spec) error {
	running := len(l.lineProcesses()) > 0
	if len(specs) == 0 && !running {
		return nil
	}
	if !running {
		if err := l.launchLine(); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(slowStart)
	for {
		_, err := link.Ask(l.lineDir(), link.Request{Set: true, Lanes: specs})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w; what it printed is in %s", err, l.lineLog())
		}
		time.Sleep(pollEvery)
	}
	return plugged("line", inside(l.Network.router(), routeToLine))
}

func (l *Lab) lineLog() string { return filepath.Join(l.lineDir(), "log") }

func (l *Lab) launchLine() error {
	if err := os.MkdirAll(l.lineDir(), 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	log, err := os.OpenFile(l.lineLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer log.Close()
	return startIn(l.Network.router(), log, l.Network.Program, LineName, l.lineDir())
}

// startIn starts a program that outlives this process, in a network namespace or
// with "" in the present one.
func startIn(netns string, log *os.File, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err := error(nil)
	if netns == "" {
		err = cmd.Start()
	} else {
		err = inside(netns, cmd.Start)
	}
	if err == nil {
		go func() { _ = cmd.Wait() }() // until this process ends nobody else reaps it
	}
	return err
}

// routeToLine has the device carry what the rules lead to it, in the present
// namespace. Without its process that is lost, not carried by another way.
func routeToLine() error {
	dev, err := netlink.LinkByName(link.Device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return err
	}
	all := single(routerAddr())
	all.IP, all.Mask = all.IP.Mask(make([]byte, 4)), make([]byte, 4)
	for _, r := range []*netlink.Route{
		{Dst: all, LinkIndex: dev.Attrs().Index, Scope: netlink.SCOPE_LINK},
		{Dst: all, Type: unix.RTN_BLACKHOLE, Priority: 1000},
	} {
		r.Table = tableLine
		if err := netlink.RouteReplace(r); err != nil {
			return err
		}
	}
	return nil
}

// endLine ends the process and returns when it is gone.
func (l *Lab) endLine() error {
	for _, pid := range l.lineProcesses() {
		p, err := readProc(pid)
		if err != nil {
			continue
		}
		if err := send(p, syscall.SIGKILL); err != nil {
			return err
		}
		for deadline := time.Now().Add(slowStart); !p.gone(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				return holdfast.Errorf(holdfast.Unavailable, "the lab's line, process %d, does not end", pid)
			}
		}
	}
	return nil
}
