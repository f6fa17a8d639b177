package baddays

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// means is what steps leave for later ones.
type means struct {
	longer  *testing.T // that of the whole story
	code    string     // that admits a host
	newHost string     // its configuration
	newSock string     // and its socket
	bad     map[string]*badDisk
	taken   map[string]net.Listener
	clocks  *clocks
	history string // revision of the external etcd, as its own program told it
}

// step does one thing to the lab (testdata/runbooks/README).
func (p *player) step(line string) {
	p.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	switch word {
	case "holdfast":
		p.succeeds(line, "")
	case "on":
		p.succeeds(strings.Join(args[1:], " "), args[0])
	case "until", "gone": // the status says that, or does no more
		p.until(line, func() (bool, string) {
			out, code := p.typed(typed{line: "holdfast status"}, "")
			return code == 0 && said(out, []string{rest}) == (word == "until"), out
		})
	case "sh":
		if out, code := p.output(typed{line: rest}, "", exec.Command("sh", "-ec", rest)); code != 0 {
			p.t.Fatalf("%s: %s", rest, out)
		}
	case "whole":
		p.whole()
	case "synced": // a volume has all its copies
		p.inSync(args[0])
	default:
		p.breakIt(word, args)
	}
}

// succeeds types a command until it succeeds.
func (p *player) succeeds(line, on string) {
	p.t.Helper()
	p.until(line, func() (bool, string) {
		out, code := p.typed(typed{line: line}, on)
		return code == 0, out
	})
}

// breakIt is a step by which something breaks, or is mended again.
func (p *player) breakIt(word string, args []string) {
	p.t.Helper()
	switch word {
	case "kill":
		p.must(lab.Kill(p.those(args)))
	case "start":
		p.must(p.l.StartHosts(p.t.Context(), program(p.t), p.those(args)))
	case "stop": // as a service manager does
		p.must(lab.Stop(p.t.Context(), p.those(args)))
	case "destroy":
		p.must(lab.Destroy(p.those(args), true))
	case "cut":
		p.must(p.l.Cut(args[0]))
	case "heal":
		p.must(p.l.Heal(""))
	case "rot": // one block of a volume of one copy
		p.rotOne(args[0])
	case "at": // a volume of one copy has it there
		p.puts(args[0], args[1])
	case "write": // to a volume, at a host, what is known by a number; so many MiB of it
		n, err := strconv.Atoi(args[2])
		p.must(err)
		mib := 1
		if len(args) > 3 {
			mib, err = strconv.Atoi(args[3])
			p.must(err)
		}
		p.writes(p.host(args[1]), args[0], n, mib)
	case "differ": // the copies of a volume that is written at a host
		p.differ(p.host(args[1]), args[0])
	case "bad": // the disk of a host does that
		p.badDisk(args[0], args[1])
	case "fills": // a volume, at a host, until the status says that
		p.fills(p.host(args[1]), args[0], strings.Join(args[2:], " "))
	case "initiator": // logs in at a host for an export, under a name
		p.initiates(args)
	case "occupied", "vacated": // the portal of a host
		p.portal(word == "occupied", p.host(args[0]))
	case "as": // a host begins anew by a wrapper
		p.startsAs(p.host(args[0]), args[1:])
	case "etcd": // the external one, or its third member, is "away", "back"; "filling", "full"
		p.etcdIs(args[0])
	case "newcomer": // a host that is in no cluster is made ready
		p.newHost, p.newSock = p.newcomer(args[0])
	case "empty": // a volume's record, without copies
		p.emptied(args[0])
	case "unreadable", "readable": // a record of the cluster
		p.unreadable(word == "unreadable")
	default:
		p.t.Fatalf("%q is no step", word)
	}
}

func (p *player) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *player) those(names []string) (out []lab.Host) {
	p.t.Helper()
	for _, n := range names {
		out = append(out, p.host(n))
	}
	return out
}

// badDisk has the disk of a host do something; at first it is replaced by one that
// can, while the host is down.
func (p *player) badDisk(host, what string) {
	p.t.Helper()
	d := p.bad[host]
	if d == nil {
		h := p.host(host)
		p.must(lab.Stop(p.t.Context(), []lab.Host{h}))
		d = (&scene{t: p.longer, l: p.l}).spoil(h.Disk())
		if p.bad == nil {
			p.bad = map[string]*badDisk{}
		}
		p.bad[host] = d
		p.start(h.Rack)
	}
	d.does(map[string]fault{"healthy": healthy, "writes": writesFail, "syncs": syncsFail}[what])
}

// puts moves the only copy of a volume to a host, if it is elsewhere.
func (p *player) puts(volume, host string) {
	p.t.Helper()
	if r := p.named(volume).Replicas[0]; r.Host != host {
		p.succeeds(fmt.Sprintf("holdfast volume move %s --from %s --to %s", volume, r.Host, host), "")
	}
}

// writes fills so many MiB of a volume and flushes.
func (p *player) writes(h lab.Host, volume string, n, mib int) {
	p.t.Helper()
	disk := p.attach(h, volume)
	defer disk.Close()
	for i := range mib {
		_, err := disk.WriteAt(pattern(i, uint32(n)), int64(i)*piece)
		p.must(err)
	}
	p.must(disk.Flush())
}

// fills overwrites a volume until the status says something, or there is no room.
func (p *player) fills(h lab.Host, volume, line string) {
	p.t.Helper()
	disk := p.attach(h, volume)
	defer disk.Close()
	size := p.named(volume).Size / piece * piece
	for i := int64(0); ; i++ {
		_, err := disk.WriteAt(pattern(int(i), 1), i*piece%size)
		if i%4 > 0 && err == nil {
			continue // looking takes longer than writing
		}
		out, _ := p.typed(typed{line: "holdfast status"}, "")
		if said(out, []string{line}) {
			return
		}
		if i > 2000 {
			p.t.Fatalf("%d MiB were written, the last with %v, and the status does not say %q:\n%s", i, err, line, out)
		}
	}
}

// initiates has an initiator log in, and be refused or not.
func (p *player) initiates(args []string) {
	p.t.Helper()
	h, e, refused := p.host(args[0]), p.exported(args[1]), args[3] == "refused"
	p.until("the initiator to be "+args[3], func() (bool, string) {
		i, err := login(h, e.Target, args[2], 1)
		if err == nil && !refused {
			p.t.Cleanup(i.Close)
		} else if err == nil {
			i.Close()
		}
		return (err != nil) == refused, fmt.Sprint(err)
	})
}

// portal takes the address of a host's portal while it is down, or gives it back.
func (p *player) portal(take bool, h lab.Host) {
	p.t.Helper()
	if !take {
		p.must(p.taken[h.Name].Close())
		return
	}
	p.must(lab.Stop(p.t.Context(), []lab.Host{h}))
	l, err := net.Listen("tcp", h.Portal())
	p.must(err)
	p.taken = map[string]net.Listener{h.Name: l}
	p.start(h.Rack)
}

// startsAs starts a host anew in another world: "3m-behind", "swapping", "nobody".
func (p *player) startsAs(h lab.Host, args []string) {
	p.t.Helper()
	p.must(lab.Stop(p.t.Context(), []lab.Host{h}))
	by := ""
	switch args[0] {
	case "itself":
		by = program(p.t)
	case "behind":
		if p.clocks == nil {
			c := newClocks(p.longer)
			p.clocks = &c
		}
		by = p.clocks.behind(args[1])
	case "swapping": // it sees another /proc/swaps
		by = p.wrapper("swapping", `exec unshare -m sh -c 'mount --bind "$0" /proc/swaps; exec "$@"' `+filepath.Join(p.home(), "swaps"))
	case "nobody":
		p.must(exec.Command("chown", "-R", "65534:65534", h.Dir).Run())
		for _, dir := range []string{p.home(), p.l.Dir, filepath.Dir(program(p.t))} { // which it has to get through
			p.must(os.Chmod(dir, 0o711))
		}
		by = p.wrapper("nobody", "exec setpriv --reuid 65534 --regid 65534 --clear-groups")
	}
	p.must(p.l.Start(p.t.Context(), by, h.Rack))
}

// wrapper is a program that runs a host by another one.
func (p *player) wrapper(name, by string) string {
	p.t.Helper()
	path := filepath.Join(p.home(), "run-"+name)
	text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = serve ] && %s %s \"$@\"\nexec %s \"$@\"\n", by, program(p.t), program(p.t))
	p.must(os.WriteFile(path, []byte(text), 0o755))
	return path
}

// newcomer writes the configuration of a host that is in no cluster.
func (p *player) newcomer(name string) (config, socket string) {
	p.t.Helper()
	dir := filepath.Join(p.home(), name)
	p.must(os.MkdirAll(dir, 0o700))
	config, socket = filepath.Join(dir, "holdfast.yaml"), filepath.Join(dir, "api.sock")
	text := fmt.Sprintf("name: %s\nrack: %s\ndata_dir: %s/data\nsocket: %s\nadvertise: 127.%d.9.9\n", name, name, dir, socket, p.l.Net)
	p.must(os.WriteFile(config, []byte(text), 0o600))
	return config, socket
}

// serves runs a host as the page does, until the test ends.
func (p *player) serves(args []string) (string, int) {
	p.t.Helper()
	log, err := os.Create(p.newSock + ".log")
	p.must(err)
	defer log.Close()
	cmd := exec.Command(program(p.t), append([]string{"serve"}, args...)...)
	cmd.Stderr = log
	p.must(cmd.Start())
	p.longer.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	p.until("the new host to answer", func() (bool, string) {
		c, err := net.Dial("unix", p.newSock)
		if err == nil {
			c.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	return "", 0
}

// socketOf is where a host of the lab, or the newcomer, answers.
func (p *player) socketOf(host string) string {
	if strings.HasPrefix(p.newSock, filepath.Join(p.home(), host)+"/") {
		return p.newSock
	}
	return p.host(host).Socket()
}
