package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// served is a fleet that answers, in a process of its own.
type served struct {
	cmd                *exec.Cmd
	url, setup, socket string
	token              string
	vm                 string // one that is changed
	n                  int    // how often it was
}

// begin starts a fleet in which nothing happens by itself.
func begin(ctx context.Context, binary string, s size) (*served, error) {
	f := &served{cmd: exec.Command(binary, "sim", "--serve", "--still", "--listen", "127.0.0.1:0",
		"--hosts", fmt.Sprint(s.Hosts), "--racks", fmt.Sprint(s.Racks), "--vms", fmt.Sprint(s.VMs))}
	f.cmd.Stderr = os.Stderr
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	find := map[*regexp.Regexp]*string{
		regexp.MustCompile(`pages and API +(\S+)`):        &f.url,
		regexp.MustCompile(`make the first admin +(\S+)`): &f.setup,
		regexp.MustCompile(`--socket (\S+)`):              &f.socket,
	}
	for f.socket == "" && lines.Scan() {
		for re, to := range find {
			if m := re.FindStringSubmatch(lines.Text()); m != nil {
				*to = m[1]
			}
		}
	}
	if f.socket == "" {
		f.end()
		return nil, fmt.Errorf("the fleet did not say where it answers")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := f.prepare(ctx); err != nil {
		f.end()
		return nil, err
	}
	return f, nil
}

// prepare gets a token, and finds a VM.
func (f *served) prepare(ctx context.Context) error {
	c := client.Socket(f.socket)
	defer c.Close()
	t, err := c.CreateToken(ctx, v1.TokenSpec{Name: "figures", Role: "viewer", Seconds: 3600})
	if err != nil {
		return err
	}
	f.token = t.Token
	vms, err := c.VMs(ctx)
	if err == nil && len(vms) > 0 {
		f.vm = vms[len(vms)-1].ID
	}
	return err
}

func (f *served) end() {
	_ = f.cmd.Process.Signal(syscall.SIGTERM)
	_ = f.cmd.Wait()
}

// askers are the connections by which lists are asked for, at once.
const askers = 4

// lists asks for the list of VMs for a time, five times, and returns how many were
// answered a second.
func (f *served) lists(ctx context.Context, each time.Duration, tags, changes bool) (out []float64, err error) {
	if changes {
		ctx, cancel := context.WithCancel(ctx)
		var changing sync.WaitGroup
		changing.Go(func() { f.change(ctx) })
		defer changing.Wait()
		defer cancel()
	}
	for range 5 {
		n, err := f.ask(ctx, each, tags)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// change commits ten times a second.
func (f *served) change(ctx context.Context) {
	c := client.Socket(f.socket)
	defer c.Close()
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			f.n++
			name := fmt.Sprintf("figures-%d", f.n)
			if _, err := c.ChangeVM(ctx, f.vm, v1.VMSet{Name: &name}); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "a change was not made:", err)
			}
		}
	}
}

func (f *served) ask(ctx context.Context, each time.Duration, tags bool) (float64, error) {
	var n atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	end := began.Add(each)
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 1, DisableCompression: true} // it is this machine
			defer tr.CloseIdleConnections()
			tag := ""
			for time.Now().Before(end) && ctx.Err() == nil {
				next, err := f.one(ctx, tr, tag)
				if err != nil {
					failed.Store(&err)
					return
				}
				if n.Add(1); tags {
					tag = next
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n.Load()) / time.Since(began).Seconds(), ctx.Err()
}

// one asks for the list and reads all of it.
func (f *served) one(ctx context.Context, tr *http.Transport, tag string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", f.url+"/v1/vms", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+f.token)
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	size, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != 200 && resp.StatusCode != 304 || resp.StatusCode == 200 && size < 1000 {
		return "", fmt.Errorf("a list was answered with %s and %d bytes", resp.Status, size)
	}
	return resp.Header.Get("ETag"), nil
}
