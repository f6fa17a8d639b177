package serve

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

func TestWhereMemoryMayBeSwappedTo(t *testing.T) {
	const head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for _, c := range []struct {
		what  string
		files map[string]string
		want  []string
	}{
		{"no swap", map[string]string{"proc/swaps": head}, nil},
		{"nothing is known", nil, nil},
		{"a partition and a file", map[string]string{"proc/swaps": head + "/dev/sda2  partition 1 0 -2\n/swapfile file 1 0 -3\n"}, []string{"/dev/sda2", "/swapfile"}},
		{"compressed memory", map[string]string{"proc/swaps": head + "/dev/zram0 partition 1 0 100\n"}, nil},
		{"an encrypted device and a plain volume", map[string]string{
			"proc/swaps":                   head + "/dev/dm-1 partition 1 0 -2\n/dev/dm-2 partition 1 0 -3\n",
			"sys/class/block/dm-1/dm/uuid": "CRYPT-PLAIN-cryptswap1\n", "sys/class/block/dm-2/dm/uuid": "LVM-abc\n"}, []string{"/dev/dm-2"}},
		{"a service that may not swap", map[string]string{
			"proc/swaps": head + "/dev/sda2 partition 1 0 -2\n", "proc/self/cgroup": "0::/system.slice/holdfast.service/agent\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.swap.max": "0\n"}, nil},
		{"one that may", map[string]string{
			"proc/swaps": head + "/dev/sda2 partition 1 0 -2\n", "proc/self/cgroup": "0::/system.slice/holdfast.service\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.swap.max": "max\n"}, []string{"/dev/sda2"}},
	} {
		root := fstest.MapFS{}
		for name, text := range c.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := swap(root); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// TestAHostLeavesNoCoreDump lets a process crash that dumps its memory if it
// may, once with and once without what a host does about it.
func TestAHostLeavesNoCoreDump(t *testing.T) {
	if what := os.Getenv("HOLDFAST_TEST_CRASH"); what != "" {
		if what == "as a host" {
			if err := dontDump(); err != nil {
				t.Fatal(err)
			}
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: min(16<<20, old.Max), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &old)
	dumped := func(what string) bool {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "HOLDFAST_TEST_CRASH="+what, "GOTRACEBACK=crash")
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) {
			t.Fatal("it did not crash: ", err)
		}
		st := exit.Sys().(syscall.WaitStatus)
		if !st.Signaled() {
			t.Fatal("it ended in another way: ", exit)
		}
		return st.CoreDump()
	}
	if dumped("as a host") {
		t.Error("a host's memory was dumped")
	}
	if !dumped("as it is") {
		t.Skip("not tested: no process dumps its memory here (core(5))")
	}
}
