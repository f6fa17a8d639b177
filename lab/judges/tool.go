package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// tool runs a program to its end and returns what it printed. What it says of
// a failure is in the error.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	return toolWith(ctx, "", "", name, args...)
}

// toolWith is tool with a working directory and standard input.
func toolWith(ctx context.Context, dir, stdin, name string, args ...string) (string, error) {
	return toolFor(ctx, 3*patience, dir, stdin, name, args...)
}

// toolFor is toolWith with a bound.
func toolFor(ctx context.Context, bound time.Duration, dir, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir = dir
	var out, bad bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &bad
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, tail(bad.String()), tail(out.String()))
	}
	return out.String(), nil
}

// tail returns the last lines of a text.
func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	s = strings.Join(lines[max(0, len(lines)-8):], "\n")
	return s[max(0, len(s)-2000):] + "\n"
}

// refused runs a program that must fail, and returns what it printed.
func refused(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return string(out), fmt.Errorf("%s %s: it got in\n%s", name, strings.Join(args, " "), tail(string(out)))
	}
	return string(out), nil
}

// daemon is a program that runs until it is ended.
type daemon struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}
}

func startDaemon(name string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(name, args...), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.said, &d.said
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what interrupts the judges must not take a mount's server first
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// end asks it to end, and makes it after a while.
func (d *daemon) end() {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = d.cmd.Process.Signal(s)
		select {
		case <-d.done:
			return
		case <-time.After(10 * time.Second):
		}
	}
}

// ended returns what it said if it has ended by itself.
func (d *daemon) ended() error {
	select {
	case <-d.done:
		return fmt.Errorf("%s ended: %v\n%s", d.cmd.Path, d.cmd.ProcessState, tail(d.said.String()))
	default:
		return nil
	}
}
