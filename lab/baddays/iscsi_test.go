package baddays

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/suite"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	anInitiator  = "iqn.2026-11.org.example:one"
	another      = "iqn.2026-11.org.example:two"
	sectorsPer4K = 8
)

// export makes volumes of 256 MiB and two copies and one target of them, that
// any initiator may use. modes are appended to the volumes' names.
func (s *scene) export(name string, modes ...string) v1.Export {
	s.t.Helper()
	h := s.l.Hosts[0]
	args := []string{"export", "create", name, "-o", "name"}
	for i, mode := range modes {
		vol := fmt.Sprintf("%s-%d", name, i)
		if out, code := s.run(h, nil, "volume", "create", vol, "--size", "256MiB", "-o", "name"); code != 0 {
			s.t.Fatal(out)
		}
		args = append(args, "--volume", vol+mode)
	}
	for _, a := range [][]string{args, {"export", "allow", name, "*", "-o", "name"}} {
		if out, code := s.run(h, nil, a...); code != 0 {
			s.t.Fatal(out)
		}
	}
	return s.exported(name)
}

func (s *scene) exported(name string) v1.Export {
	s.t.Helper()
	e, err := ask(s, func(ctx context.Context, c *client.Client) (v1.Export, error) { return c.Export(ctx, name) })
	if err != nil {
		s.t.Fatal(err)
	}
	return e
}

// login logs in at a host's portal.
func login(h lab.Host, target, name string, isid byte) (*initiator.Session, error) {
	nc, err := net.DialTimeout("tcp", h.Portal(), 5*time.Second)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	i, err := initiator.Login(nc, initiator.Config{Name: name, Target: target, ISID: [6]byte{0x80, 0, 0, 0, 0, isid}})
	if err != nil {
		return nil, err
	}
	return i, nc.SetDeadline(time.Time{})
}

// loggedIn logs in, and again until it succeeds, at any of the hosts.
func (s *scene) loggedIn(hosts []lab.Host, target, name string, isid byte) (i *initiator.Session, at lab.Host) {
	s.t.Helper()
	n := 0
	s.until("a login to "+target, func() (bool, string) {
		at = hosts[n%len(hosts)]
		n++
		var err error
		i, err = login(at, target, name, isid)
		return err == nil, fmt.Sprint(err)
	})
	s.t.Cleanup(i.Close)
	return i, at
}

// calm takes the unit attentions of a nexus and returns their codes.
func (s *scene) calm(i *initiator.Session) (codes []uint16, err error) {
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		r, err := i.Do(initiator.Command{CDB: make([]byte, 6)})
		if err != nil || r.Status == 0 {
			return codes, err
		}
		_, code := r.SenseKey()
		codes = append(codes, code)
		if key, _ := r.SenseKey(); key == 2 { // not ready yet
			time.Sleep(100 * time.Millisecond)
		}
	}
	return codes, fmt.Errorf("it is not ready: %04x", codes)
}

func rw10(op byte, lba uint32, blocks uint16) []byte {
	cdb := make([]byte, 10)
	cdb[0] = op
	binary.BigEndian.PutUint32(cdb[2:], lba)
	binary.BigEndian.PutUint16(cdb[7:], blocks)
	return cdb
}

// page is what a test writes: it says where it belongs and which writing it is.
func page(block, serial uint32) []byte {
	b := make([]byte, 4096)
	for at := 0; at < len(b); at += 8 {
		binary.BigEndian.PutUint32(b[at:], block)
		binary.BigEndian.PutUint32(b[at+4:], serial)
	}
	return b
}

// A rack is lost that served a target: an initiator with a path by another rack
// goes on there, everything that was flushed is there, and its reservations
// are.
func TestAnInitiatorOutlivesTheRackThatServesIt(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.whole()
	e := s.export("db", "")
	first, _ := s.loggedIn(s.l.Hosts[:1], e.Target, anInitiator, 1)
	if _, err := s.calm(first); err != nil {
		t.Fatal(err)
	}
	serving := s.host(s.exported("db").Host)
	var rest []lab.Host
	for _, h := range s.l.Hosts {
		if h.Name != serving.Name {
			rest = append(rest, h)
		}
	}
	second, _ := s.loggedIn(rest, e.Target, anInitiator, 2)
	if _, err := s.calm(second); err != nil {
		t.Fatal(err)
	}
	s.reserve(second)

	const blocks = 64
	flushed := make([]uint32, blocks) // the serial that a flush has covered
	last := make([]uint32, blocks)    // the newest that was sent
	serial := uint32(0)
	write := func(i *initiator.Session, rounds int) error {
		for range rounds {
			for range 8 {
				serial++
				at := serial * 7 % blocks
				last[at] = serial
				if err := good(i.Do(initiator.Command{CDB: rw10(0x2a, at*sectorsPer4K, sectorsPer4K), Out: page(at, serial)})); err != nil {
					return err
				}
			}
			if err := good(i.Do(initiator.Command{CDB: rw10(0x35, 0, 0)})); err != nil {
				return err
			}
			copy(flushed, last)
		}
		return nil
	}
	check := func(i *initiator.Session, when string) {
		for at := range uint32(blocks) {
			got := make([]byte, 4096)
			if err := good(i.Do(initiator.Command{CDB: rw10(0x28, at*sectorsPer4K, sectorsPer4K), In: got})); err != nil {
				t.Fatalf("%s: read of block %d: %v", when, at, err)
			}
			if flushed[at] == 0 && last[at] == 0 {
				continue
			}
			n := binary.BigEndian.Uint32(got[4:])
			if n < flushed[at] || n > last[at] || n != 0 && !bytes.Equal(got, page(at, n)) {
				t.Errorf("%s: block %d holds writing %d; %d was flushed, %d the last", when, at, n, flushed[at], last[at])
			}
		}
	}
	if err := write(first, 20); err == nil {
		t.Error("the first path, which holds no reservation, may write")
	}
	if err := write(second, 50); err != nil {
		t.Fatal(err)
	}
	check(second, "before")

	ended := make(chan error, 1)
	go func() { ended <- write(second, 1<<30) }()
	time.Sleep(300 * time.Millisecond) // let it be in the midst of something; nothing depends on it
	begin := time.Now()
	s.kill(serving.Rack)
	t.Logf("the path ended: %v", <-ended)
	again, at := s.loggedIn(rest, e.Target, anInitiator, 2)
	codes, err := s.calm(again)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("logged in again at %s after %.1f s, told %04x", at.Name, time.Since(begin).Seconds(), codes)
	if now := s.exported("db"); now.Host == serving.Name || now.State != "served" {
		t.Errorf("the target is %s by %s after its host was lost", now.State, now.Host)
	}
	check(again, "after")
	s.reserved(again, rest, e.Target)
	s.start(serving.Rack)
	s.inSync("db-0")

	for _, h := range s.l.Hosts {
		s.kill(h.Rack)
	}
	for _, h := range s.l.Hosts {
		s.start(h.Rack)
	}
	third, _ := s.loggedIn(s.l.Hosts, e.Target, another, 3)
	if codes, err = s.calm(third); err != nil {
		t.Fatalf("%v, told %04x", err, codes)
	}
	check(third, "after all hosts had been off")
	s.reserved(third, nil, "")
}

// good is an error unless a command ended well.
func good(r initiator.Reply, err error) error {
	if err == nil && r.Status != 0 {
		key, code := r.SenseKey()
		err = fmt.Errorf("status %#x, sense key %x, code %04x", r.Status, key, code)
	}
	return err
}

const prKey = 0xabcdef

// prOut is PERSISTENT RESERVE OUT.
func prOut(action, kind byte, key, newKey uint64, aptpl byte) initiator.Command {
	p := make([]byte, 24)
	binary.BigEndian.PutUint64(p, key)
	binary.BigEndian.PutUint64(p[8:], newKey)
	p[20] = aptpl
	return initiator.Command{CDB: []byte{0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0}, Out: p}
}

// reserve registers with APTPL and reserves for writing alone.
func (s *scene) reserve(i *initiator.Session) {
	s.t.Helper()
	for _, c := range []initiator.Command{prOut(0, 0, 0, prKey, 1), prOut(1, 1, prKey, 0, 0)} {
		if err := good(i.Do(c)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// reserved checks that the reservation stands, and that it keeps somebody else
// from writing.
func (s *scene) reserved(i *initiator.Session, at []lab.Host, target string) {
	s.t.Helper()
	got := make([]byte, 64)
	if err := good(i.Do(initiator.Command{CDB: []byte{0x5e, 1, 0, 0, 0, 0, 0, 0, 64, 0}, In: got})); err != nil {
		s.t.Fatal(err)
	}
	if binary.BigEndian.Uint64(got[8:]) != prKey || got[21] != 1 {
		s.t.Errorf("the reservation is not there: % x", got[:24])
	}
	if at == nil {
		return
	}
	other, _ := s.loggedIn(at, target, another, 9)
	if _, err := s.calm(other); err != nil {
		s.t.Fatal(err)
	}
	if r, err := other.Do(initiator.Command{CDB: rw10(0x2a, 0, sectorsPer4K), Out: make([]byte, 4096)}); err != nil || r.Status != 0x18 {
		s.t.Errorf("a write of another initiator ended with status %#x, %v; want RESERVATION CONFLICT", r.Status, err)
	}
}

// Nobody gets in who is not on the list or does not know the secret; people are
// told of who tried. Who is taken off the list is put out.
func TestATargetIsClosed(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	s := newLab(t, 1, lab.DefaultDiskSize)
	h := s.l.Hosts[0]
	s.until("a disk", func() (bool, string) {
		out, code := s.run(h, nil, "volume", "create", "v", "--size", "64MiB")
		return code == 0, out
	})
	if out, code := s.run(h, nil, "export", "create", "x", "--volume", "v"); code != 0 || !strings.Contains(out, "closed") {
		t.Fatal(out)
	}
	target := s.exported("x").Target
	cfg := initiator.Config{Name: anInitiator, Target: target, ISID: [6]byte{0x80, 1}, User: anInitiator, Secret: "what nobody knows"}
	try := func(cfg initiator.Config, want uint16) {
		t.Helper()
		var last error
		s.until(fmt.Sprintf("status %04x", want), func() (bool, string) {
			nc, err := net.Dial("tcp", h.Portal())
			if err != nil {
				return false, err.Error()
			}
			i, err := initiator.Login(nc, cfg)
			if err == nil {
				i.Close()
			}
			last = err
			var r *initiator.Refused
			return want == 0 && err == nil || errors.As(err, &r) && r.Status == want, fmt.Sprint(err)
		})
		_ = last
	}
	try(cfg, 0x0202)
	if out, code := s.run(h, strings.NewReader("what nobody knows\n"), "export", "allow", "x", anInitiator, "--secret-file", "-"); code != 0 || strings.Contains(out, "nobody knows") {
		t.Fatal(out)
	}
	wrong := cfg
	wrong.Secret = "something else"
	try(wrong, 0x0201)
	try(cfg, 0)
	s.until("status to tell", func() (bool, string) {
		out, _ := s.run(h, nil, "status")
		return strings.Contains(out, anInitiator) && strings.Contains(out, "refused") && strings.Contains(out, "secret is wrong"), out
	})
	if out, _ := s.run(h, nil, "export", "show", "x", "-o", "json"); strings.Contains(out, "nobody knows") || !strings.Contains(out, "one-way") {
		t.Error("the secret is shown, or CHAP is not: ", out)
	}
	nc, err := net.Dial("tcp", h.Portal())
	if err != nil {
		t.Fatal(err)
	}
	i, err := initiator.Login(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if out, code := s.run(h, nil, "export", "deny", "x", anInitiator); code != 0 {
		t.Fatal(out)
	}
	s.until("its session to end", func() (bool, string) {
		_, err := i.Ping(nil)
		return err != nil, "it goes on"
	})
	try(cfg, 0x0202)
}

// judgedTargets are how many targets the suite is spread over: its tests wait
// for the disk, most of the time.
const judgedTargets = 4

// Every test of libiscsi's suite, over volumes of two copies and portals of two
// racks; and the tools of libiscsi and QEMU.
func TestJudgeISCSI(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, suite.Tool, "iscsi-ls", "iscsi-inq")
	tests, err := suite.Tests()
	if err != nil || len(tests) < 200 {
		t.Fatalf("%d tests, %v", len(tests), err)
	}
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.whole()
	var mu sync.Mutex
	count := map[suite.Verdict]int{}
	var all sync.WaitGroup
	for n := range judgedTargets {
		e := s.export(fmt.Sprintf("judged%d", n), "", ",removable", ",read-only", ",4k")
		r := suite.Suite{URL: "iscsi://" + s.l.Hosts[n%3].Portal() + "/" + e.Target, Second: "iscsi://" + s.l.Hosts[(n+1)%3].Portal() + "/" + e.Target, Dir: t.TempDir()}
		all.Go(func() {
			for _, name := range share(tests, n) {
				v, why := r.Run(name)
				mu.Lock()
				count[v]++
				mu.Unlock()
				switch v {
				case suite.Failed:
					out := r.Output(name)
					t.Errorf("%s %s: %s\n%s", name, v, why, out[max(0, len(out)-2000):])
				case suite.Skipped:
					t.Logf("%s %s: %s", name, v, why)
				}
			}
		})
	}
	all.Wait()
	t.Logf("judge iscsi-test-cu over two copies: passed %d, failed %d, skipped %d of %d", count[suite.Passed], count[suite.Failed], count[suite.Skipped], len(tests))
	if count[suite.Passed]*230 < 215*len(tests) {
		t.Errorf("%d of %d tests passed, want 215 of 230 at least", count[suite.Passed], len(tests))
	}
	s.others(s.exported("judged0"))
}

// share is the n-th part of the tests: suites stay together and in order.
func share(tests []string, n int) (part []string) {
	i, last := -1, ""
	for _, name := range tests {
		if family := name[:strings.LastIndexByte(name, '.')]; family != last {
			i, last = i+1, family
		}
		if i%judgedTargets == n {
			part = append(part, name)
		}
	}
	return part
}

// others has the other tools of libiscsi, and QEMU, use a target by a host that
// carries them to the one that serves it.
func (s *scene) others(e v1.Export) {
	t := s.t
	at := s.host(e.Host)
	for _, h := range s.l.Hosts {
		if h.Name != e.Host {
			at = h
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	url := "iscsi://" + at.Portal() + "/" + e.Target + "/0"
	if out := run("iscsi-ls", "-s", "iscsi://"+at.Portal()); strings.Count(out, e.Target+" ") != 3 {
		t.Errorf("iscsi-ls: %s", out)
	}
	if out := run("iscsi-inq", url); !strings.Contains(out, "Vendor:HOLDFAST") {
		t.Errorf("iscsi-inq: %s", out)
	}
	if out, err := exec.Command("qemu-io", "-r", "-c", "length", url).CombinedOutput(); err != nil {
		t.Logf("judge absent: QEMU's iscsi driver (Debian: qemu-utils, qemu-block-extra): %s", out)
		return
	}
	raw := filepath.Join(t.TempDir(), "raw")
	content := make([]byte, 256<<20)
	for i := range 8 {
		copy(content[i*32<<20:], page(uint32(i), 1))
	}
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, url)
	if out := run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, url); !strings.Contains(out, "identical") {
		t.Errorf("qemu-img compare: %s", out)
	}
	run("qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 4M", "-c", "discard 2M 1M", "-c", "write -z 4M 64k", "-c", "flush",
		"-c", "read -P 0x5a 1M 1M", "-c", "read -P 0 2M 1M", "-c", "read -P 0 4M 64k", "-c", "read -P 0x5a 4160k 896k", url)
}
