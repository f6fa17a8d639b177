package nbd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Judges written by others: libnbd, QEMU and fio as clients of this server.

// judge returns a tool's path or skips the test with the reason.
func judge(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Skipf("judge absent: %s is not installed", tool)
	}
	return path
}

func runTool(t *testing.T, tool string, args ...string) string {
	t.Helper()
	cmd := exec.Command(judge(t, tool), args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", tool, strings.Join(args, " "), err, out, errOut.String())
	}
	return string(out)
}

func uri(o *offering) string { return "nbd+unix:///vol?socket=" + o.path }

// noisy returns n bytes of noise in which every fourth 64 KiB is zero.
func noisy(n int) []byte {
	rnd := rand.New(rand.NewPCG(8, 9))
	b := make([]byte, n)
	for i := range b {
		if i/65536%4 != 3 {
			b[i] = byte(rnd.Uint32())
		}
	}
	return b
}

func TestJudgeNbdinfo(t *testing.T) {
	o := offer1(t, 10*mib+512, Limits{})
	c := o.dial(t)
	c.WriteAt(noisy(256*kib), mib)
	c.Close()
	freed(t, o)
	var info struct {
		Protocol string
		Exports  []struct {
			Name        string   `json:"export-name"`
			Size        int64    `json:"export-size"`
			Min         int      `json:"block_size_minimum"`
			Pref        int      `json:"block_size_preferred"`
			Max         int      `json:"block_size_maximum"`
			ReadOnly    bool     `json:"is_read_only"`
			Flush       bool     `json:"can_flush"`
			FUA         bool     `json:"can_fua"`
			Trim        bool     `json:"can_trim"`
			Zero        bool     `json:"can_zero"`
			FastZero    bool     `json:"can_fast_zero"`
			DF          bool     `json:"can_df"`
			Cache       bool     `json:"can_cache"`
			MultiConn   bool     `json:"can_multi_conn"`
			Contexts    []string `json:"contexts"`
			Description string
		}
	}
	o.target.Keep(snapID(1), "monday")
	c = o.dial(t)
	c.WriteAt(noisy(64*kib), mib+128*kib)
	c.Close()
	freed(t, o)
	out := runTool(t, "nbdinfo", "--json", uri(o))
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatal(err)
	}
	if info.Protocol != "newstyle-fixed" || len(info.Exports) != 1 {
		t.Fatalf("nbdinfo: %s", out)
	}
	x := info.Exports[0]
	if x.Size != 10*mib+512 || x.Min != 1 || x.Pref != 4096 || x.Max != 32*mib || x.ReadOnly || x.MultiConn ||
		!(x.Flush && x.FUA && x.Trim && x.Zero && x.FastZero && x.DF && x.Cache) ||
		strings.Join(x.Contexts, " ") != "base:allocation holdfast:dirty:monday" {
		t.Errorf("nbdinfo: %s", out)
	}
	freed(t, o)
	if list := runTool(t, "nbdinfo", "--list", "nbd+unix:///?socket="+o.path); !strings.Contains(list, `export="vol"`) {
		t.Errorf("nbdinfo --list: %s", list)
	}
	freed(t, o)
	lines := strings.Fields(runTool(t, "nbdinfo", "--map", uri(o)))
	want := "0 1048576 3 hole,zero 1048576 262144 0 data 1310720 9175552 3 hole,zero"
	if got := strings.Join(lines, " "); got != want {
		t.Errorf("nbdinfo --map: %s\nwant %s", got, want)
	}
	freed(t, o)
	lines = strings.Fields(runTool(t, "nbdinfo", "--map=holdfast:dirty:monday", uri(o)))
	want = "0 1179648 0 1179648 65536 1 1245184 9241088 0"
	if got := strings.Join(lines, " "); got != want {
		t.Errorf("nbdinfo --map=holdfast:dirty:monday: %s\nwant %s", got, want)
	}
	freed(t, o)
	if out, err := exec.Command("nbdinfo", "--map=holdfast:dirty:sunday", uri(o)).CombinedOutput(); err == nil {
		t.Errorf("nbdinfo --map of a snapshot that is not there: %s", out)
	}
	freed(t, o)
}

// QEMU takes any context for a dirty bitmap: what is dirty it shows as no data.
func TestJudgeQemuImgMapsWhatIsDirty(t *testing.T) {
	o := withSnapshots(t)
	for snap, want := range map[string]string{
		"tuesday": "true 3145728 false 4096 true 1044480",
		"monday":  "true 2097152 false 4096 true 1044480 false 4096 true 1044480",
	} {
		out := runTool(t, "qemu-img", "map", "--output=json", "--image-opts",
			"driver=nbd,export=vol,server.type=unix,server.path="+o.path+",x-dirty-bitmap=holdfast:dirty:"+snap)
		var runs []struct {
			Length int64
			Data   bool
		}
		if err := json.Unmarshal([]byte(out), &runs); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range runs {
			got = append(got, fmt.Sprint(r.Data, " ", r.Length))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("since %s: %q, want %q", snap, got, want)
		}
		freed(t, o)
	}
}

// libnbdPython runs a script with libnbd's Python module, which is that of the
// system's own Python where there are several.
func libnbdPython(t *testing.T, script string) {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import nbd").Run() == nil {
			runTool(t, python, "-c", script)
			return
		}
	}
	t.Skip("judge absent: python3-libnbd is not installed")
}

// libnbd, from Python: several contexts in one session.
func TestJudgeLibnbdAsksForSeveralContexts(t *testing.T) {
	o := withSnapshots(t)
	libnbdPython(t, `
import nbd
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.add_meta_context("holdfast:dirty:tuesday")
h.add_meta_context("holdfast:dirty:monday")
h.connect_unix("`+o.path+`")
assert h.can_meta_context("holdfast:dirty:monday") and not h.can_meta_context("holdfast:dirty:sunday")
said = {}
def f(name, offset, entries, err):
    said[name] = entries
h.block_status(4*1024*1024, 0, f)
assert said["holdfast:dirty:tuesday"] == [3145728, 0, 4096, 1, 1044480, 0], said
assert said["holdfast:dirty:monday"] == [2097152, 0, 4096, 1, 1044480, 0, 4096, 1, 1044480, 0], said
assert said["base:allocation"][:6] == [1048576, 3, 8192, 0, 1040384, 3], said
h.shutdown()
`)
}

func TestJudgeNbdinfoOverTLS(t *testing.T) {
	s, ca := newServer(t, Limits{}), newAuthority(t)
	if _, err := s.Publish(newID(), "vol", newTarget(t, mib, false)); err != nil {
		t.Fatal(err)
	}
	addr, err := s.ListenTLS("127.0.0.1:0", ca.server(t))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr.String(), ":")
	at := "nbds://127.0.0.1:" + port + "/"
	dir := "?tls-certificates=" + ca.files(t)
	if out := runTool(t, "nbdinfo", at+"vol"+dir); !strings.Contains(out, "with TLS") {
		t.Errorf("nbdinfo: %s", out)
	}
	if out := runTool(t, "nbdinfo", "--list", at+dir); !strings.Contains(out, `export="vol"`) {
		t.Errorf("nbdinfo --list: %s", out)
	}
	if out, err := exec.Command(judge(t, "nbdinfo"), "nbd://127.0.0.1:"+port+"/vol").CombinedOutput(); err == nil {
		t.Errorf("nbdinfo without TLS got in: %s", out)
	}
}

func TestJudgeNbdcopy(t *testing.T) {
	o := offer1(t, 24*mib, Limits{})
	dir := t.TempDir()
	src, back := filepath.Join(dir, "src"), filepath.Join(dir, "back")
	want := noisy(24 * mib)
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, "nbdcopy", "--flush", src, uri(o))
	freed(t, o)
	runTool(t, "nbdcopy", uri(o), back)
	got, err := os.ReadFile(back)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the copy differs (%d bytes, %v)", len(got), err)
	}
}

func TestJudgeQemuImg(t *testing.T) {
	o := offer1(t, 24*mib, Limits{})
	dir := t.TempDir()
	src, back := filepath.Join(dir, "src"), filepath.Join(dir, "back.qcow2")
	if err := os.WriteFile(src, noisy(24*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	runTool(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", src, uri(o))
	freed(t, o)
	runTool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, uri(o))
	freed(t, o)
	runTool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri(o), back)
	runTool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", src, back)
}

func TestJudgeQemuIO(t *testing.T) {
	o := offer1(t, 64*mib, Limits{})
	for _, commands := range [][]string{
		{"write -P 0x11 0 1M", "write -f -P 0x22 4096 512", "flush", "read -P 0x11 0 4096", "read -P 0x22 4096 512", "read -P 0x11 4608 1000"},
		{"read -P 0x11 5632 512", "discard 0 64k", "read -P 0 0 64k", "write -z 65536 131072", "read -P 0 64k 128k", "read -P 0x11 192k 64k"},
		{"write -z -u 256k 100k", "read -P 0 256k 100k", "write -P 9 1 3", "read -P 9 1 3", "read -P 0 4 60k"},
		{"aio_write -P 5 8M 32M", "aio_read -P 0 48M 8M", "aio_flush", "read -P 5 8M 32M", "write -P 7 67108352 512", "read -P 7 67108352 512"},
	} {
		args := []string{"-f", "raw"}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		if out := runTool(t, "qemu-io", append(args, uri(o))...); strings.Contains(out, "Pattern verification failed") {
			t.Errorf("%q:\n%s", commands, out)
		}
		freed(t, o)
	}
}

func TestJudgeFio(t *testing.T) {
	out, err := exec.Command(judge(t, "fio"), "--enghelp=nbd").CombinedOutput()
	if err != nil || strings.Contains(string(out), "not loadable") || !strings.Contains(string(out), "uri") {
		t.Skip("judge absent: fio has no nbd engine")
	}
	o := offer1(t, 64*mib, Limits{})
	for _, shape := range [][]string{
		{"--rw=randwrite", "--bs=4k"},
		{"--rw=randrw", "--bsrange=512-64k", "--bs_unaligned=0"},
		{"--rw=write", "--bs=1m"},
	} {
		runTool(t, "fio", append(shape, "--name=verify", "--ioengine=nbd", "--uri="+uri(o), "--iodepth=32",
			"--size=24m", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--do_verify=1", "--fsync=64", "--randseed=7")...)
		freed(t, o)
	}
}
