package baddays

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// cannot says why a command of a page is never run.
func cannot(c typed) string {
	for _, no := range []struct{ line, why string }{
		{"smartctl", "the disks of a lab have no SMART"},
		{"swapoff", "it would be the swap of this machine"},
		{"timedatectl", "it would be the clock of this machine; the lab sets that of a host"},
		{"systemctl edit", "it opens an editor; the lab does what would be typed in it"},
	} {
		if strings.HasPrefix(c.line, no.line) {
			return no.why
		}
	}
	if word := c.words()[0]; word != "holdfast" && word != "systemctl" && word != "journalctl" {
		if _, err := exec.LookPath(word); err != nil {
			return "it is not installed here"
		}
		if word == "dmesg" && exec.Command("dmesg").Run() != nil {
			return "the kernel's log may not be read here"
		}
	}
	return ""
}

// pairs returns pairs of what pages say and what it is in the lab, the special
// ones first, for a command that is typed on a host.
func (p *player) pairs(on string) (pairs []string) {
	add := func(page, real string) { pairs = append(pairs, page, real) }
	for _, h := range p.l.Hosts {
		add(h.Name+":/dev/sdb", h.Name+":"+h.Disk())
		add(h.Name+":/dev/sdc", h.Name+":"+filepath.Join(h.Dir, "sdc"))
	}
	for i, h := range p.l.Hosts {
		add(fmt.Sprintf("192.0.2.%d", 11+i), h.Addr)
	}
	if on != "" && p.socketOf(on) != p.newSock {
		h := p.host(on)
		add("/dev/sdb", h.Disk())
		add("/dev/sdc", filepath.Join(h.Dir, "sdc"))
		add("/etc/holdfast.key", filepath.Join(h.Dir, "holdfast.key"))
	}
	add("/etc/fstab", filepath.Join(p.home(), "fstab"))
	add("/etc/holdfast.yaml", p.newHost)
	add("/mnt/backups", filepath.Join(p.home(), "mnt", "backups"))
	add("~/.config/holdfast/field", p.l.Credential())
	add("2026-11-22", time.Now().UTC().Format(time.DateOnly))
	add("LAB/", p.l.Dir+"/")
	add("CODE", p.code)
	if p.etcd != nil {
		pairs = append(pairs, p.etcdPairs()...)
	}
	return pairs
}

// real is a line of a page as it is typed in the lab.
func (p *player) real(line, on string) string {
	line = strings.NewReplacer(p.pairs(on)...).Replace(line)
	for _, once := range [][2]string{{"--times 20", "--times 1"}, {"--for 30m", "--for 10s"}, {"--guests 12", "--guests 3"}} {
		line = strings.ReplaceAll(line, once[0], once[1]) // a drill is a drill
	}
	return line
}

// paged is what was printed in the lab as pages say it.
func (p *player) paged(text, on string) string {
	for _, h := range p.l.Hosts {
		text = strings.NewReplacer(h.Disk(), "/dev/sdb", filepath.Join(h.Dir, "sdc"), "/dev/sdc", filepath.Join(h.Dir, "holdfast.key"), "/etc/holdfast.key").Replace(text)
	}
	pairs := p.pairs(on)
	var back []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" && pairs[i] != "CODE" && pairs[i] != "LAB/" && pairs[i] != "REVISION" {
			back = append(back, pairs[i+1], pairs[i])
		}
	}
	return strings.NewReplacer(back...).Replace(text)
}

// typed runs a command line of a page, on a host or wherever, and returns what it
// printed and its exit status. Pages have names of their own for what a lab has:
// see pairs. What is done about the service of a host the lab does.
func (p *player) typed(c typed, on string) (string, int) {
	p.t.Helper()
	line := p.real(c.line, on)
	words := strings.Fields(line)
	if strings.Contains(line, "/dev/sd") && words[0] == "holdfast" {
		p.t.Fatalf("%q: the page does not say on which host", c.line)
	}
	switch words[0] {
	case "systemctl", "journalctl":
		return p.service(words, on)
	case "etcdctl":
		return p.etcdctl(c, line)
	case "holdfast":
		if words[1] == "serve" {
			return p.serves(words[2:])
		}
		if strings.HasPrefix(line, "holdfast lab up") {
			choosing.Lock() // two labs must not choose the same free addresses
			defer choosing.Unlock()
		}
		return p.output(c, on, exec.Command(program(p.t), words[1:]...))
	}
	return p.output(c, on, exec.Command("sh", "-c", line))
}

func (p *player) output(c typed, on string, cmd *exec.Cmd) (string, int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*patience)
	defer cancel()
	end := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer end()
	socket := ""
	if on != "" {
		socket = p.socketOf(on)
	}
	state := p.home()
	if len(p.l.Hosts) == 0 { // the page makes the lab, where labs are made
		state = filepath.Dir(state)
	}
	cmd.Dir = p.home()
	cmd.Env = append(os.Environ(), "HOME="+p.home(), "XDG_STATE_HOME="+state, "HOLDFAST_HOST=", "HOLDFAST_SOCKET="+socket, "LAB="+p.l.Dir, "HOLDFAST="+program(p.t),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin = strings.NewReader(c.input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(c.line, err)
	}
	if slices.Contains(cmd.Args, "code") { // for whom it is admits
		p.code = strings.TrimSpace(string(out))
	}
	return p.paged(string(out), on), cmd.ProcessState.ExitCode()
}

// service is what the service manager of a host would do.
func (p *player) service(words []string, on string) (string, int) {
	p.t.Helper()
	if on == "" {
		p.t.Fatalf("%q: the page does not say on which host", words)
	}
	h := p.host(on)
	var err error
	switch words[1] {
	case "restart":
		err = p.l.Restart(p.t.Context(), program(p.t), []lab.Host{h})
	case "start":
		err = p.l.StartHosts(p.t.Context(), program(p.t), []lab.Host{h})
	case "status":
		out, code := p.output(typed{line: strings.Join(words, " ")}, on, exec.Command(program(p.t), "lab", "status"))
		return out, code
	case "-u":
		b, rerr := os.ReadFile(h.Log())
		lines := strings.Split(string(b), "\n")
		return strings.Join(lines[max(0, len(lines)-50):], "\n"), exitOf(rerr)
	default:
		p.t.Fatalf("%q: a lab is no such service manager", words)
	}
	return fmt.Sprint(err), exitOf(err)
}

func exitOf(err error) int {
	if err != nil {
		return 1
	}
	return 0
}
