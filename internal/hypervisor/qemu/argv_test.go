package qemu

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func goldenSpec() hypervisor.Spec {
	return hypervisor.Spec{VM: vmID, Name: "db", CPUs: 2, MemoryMiB: 512, Disks: []hypervisor.Disk{{Socket: "/run/hf/nbd/a/sock", Export: "db"}}}
}

func TestArguments(t *testing.T) {
	paths := layout{monitor: "/r/sock/monitor", serial: "/r/serial", screen: "/r/sock/screen", net: "/r/sock/net"}
	direct := goldenSpec()
	direct.Kernel, direct.Initrd, direct.Append = "/boot/vmlinuz", "/boot/initrd", "console=ttyS0 quiet"
	directPaths := paths
	directPaths.kernel, directPaths.initrd = "/r/files/kernel", "/r/files/initrd"
	cloud := goldenSpec()
	cloud.Disks = append(cloud.Disks, hypervisor.Disk{Slot: 1, Socket: "/run/hf,odd/sock", Export: "a,b", ReadOnly: true})
	cloud.NIC = &hypervisor.NIC{MAC: "52:54:00:00:00:01"}
	cloudPaths := paths
	cloudPaths.seed = "/r/files/seed"
	for name, c := range map[string]struct {
		spec  hypervisor.Spec
		accel string
		l     layout
	}{
		"disk_tcg":   {goldenSpec(), "tcg", paths},
		"kernel_kvm": {direct, "kvm", directPaths},
		"cloud_tcg":  {cloud, "tcg", cloudPaths},
	} {
		if err := checkSpec(c.spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := strings.Join(argv(c.spec, c.accel, c.l), "\n") + "\n"
		file := filepath.Join("testdata", name+".txt")
		if *rewrite {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s (%v): the arguments are now\n%s", name, err, got)
		}
	}
}

func TestWrongSpecsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*hypervisor.Spec){
		"no identifier":        func(s *hypervisor.Spec) { s.VM = holdfast.VMID{} },
		"no CPU":               func(s *hypervisor.Spec) { s.CPUs = 0 },
		"too many CPUs":        func(s *hypervisor.Spec) { s.CPUs = 65 },
		"no memory":            func(s *hypervisor.Spec) { s.MemoryMiB = 0 },
		"negative memory":      func(s *hypervisor.Spec) { s.MemoryMiB = -1 },
		"too much memory":      func(s *hypervisor.Spec) { s.MemoryMiB = 1<<20 + 1 },
		"nothing to boot":      func(s *hypervisor.Spec) { s.Disks = nil },
		"too many disks":       func(s *hypervisor.Spec) { s.Disks = make([]hypervisor.Disk, 21) },
		"a slot that is taken": func(s *hypervisor.Spec) { s.Disks = append(s.Disks, s.Disks[0]) },
		"a slot too far":       func(s *hypervisor.Spec) { s.Disks[0].Slot = 20 },
		"a relative path":      func(s *hypervisor.Spec) { s.Disks[0].Socket = "sock" },
		"a long path":          func(s *hypervisor.Spec) { s.Disks[0].Socket = "/" + strings.Repeat("x", 107) },
		"a NUL in a name":      func(s *hypervisor.Spec) { s.Disks[0].Export = "a\x00b" },
		"an initrd alone":      func(s *hypervisor.Spec) { s.Initrd = "/initrd" },
		"arguments alone":      func(s *hypervisor.Spec) { s.Append = "quiet" },
		"no MAC":               func(s *hypervisor.Spec) { s.NIC = &hypervisor.NIC{} },
		"a multicast MAC":      func(s *hypervisor.Spec) { s.NIC = &hypervisor.NIC{MAC: "01:00:5e:00:00:01"} },
		"a MAC of 8 bytes":     func(s *hypervisor.Spec) { s.NIC = &hypervisor.NIC{MAC: "52:54:00:00:00:01:02:03"} },
		"options in a MAC":     func(s *hypervisor.Spec) { s.NIC = &hypervisor.NIC{MAC: "52:54:00:00:00:01,x=y"} },
	} {
		s := goldenSpec()
		spoil(&s)
		if err := checkSpec(s); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	b, err := json.Marshal(record{Version: recordVersion, Spec: goldenSpec(), QEMU: process{PID: 12, Start: 3, Boot: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && checkSpec(r.Spec) != nil {
			t.Errorf("accepted a record whose spec is wrong: %+v", r.Spec)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2 3\n"))
	f.Add([]byte(") S"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(b) })
}

func TestStatOfAProcessWithAnOddName(t *testing.T) {
	start, state, err := parseStat([]byte("7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2 3\n"))
	if start != 4711 || state != 'S' || err != nil {
		t.Fatalf("start %d, state %c, %v", start, state, err)
	}
}
