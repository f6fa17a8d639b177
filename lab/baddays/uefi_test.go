package baddays

import (
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/lab"
)

// keepsEverything is a guest with UEFI, two disks and a CD-ROM. At each boot it
// says what UEFI has kept for it, and what is on its disks, of which it is: block n
// says its own number. Then it writes to both, and says what is flushed. What lies
// in the drive it says at the beginning and whenever it is something else.
const keepsEverything = `
i=0; for d in vda vdb sr0; do while [ ! -b /dev/$d ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; done
echo "BOOT $(cat /proc/sys/kernel/random/boot_id) END"
vars=/sys/firmware/efi/efivars
mount -t efivarfs e $vars || echo "NO-UEFI END"
var=$vars/Holdfast-6d0f9d1e-43b1-4a5c-9d55-0f5f3b1a7c21
if [ -f $var ]; then echo "VAR $(tail -c +5 $var) END"; else
  echo "VAR none END"
  printf '\007\000\000\000kept' >/var.new; cat /var.new >$var && echo "VAR set END"
fi
cd_is() { dd if=/dev/sr0 bs=2048 2>/dev/null >/cd; [ -s /cd ] && md5sum </cd | cut -c1-32 || echo none; }
( was=; while :; do now=$(cd_is); [ "$now" = "$was" ] || echo "CD $now END"; was=$now; sleep 0.5; done ) &
for d in vda vdb; do
  tr -d '\000' </dev/$d >/got
  n=$(wc -l </got)
  seq 0 $((n-1)) | sed "s/^/$d /" >/want
  if cmp -s /got /want; then echo "INTACT $d $n END"; else echo "BROKEN $d $n END"; fi
  eval $d=$n
done
while :; do
  for d in vda vdb; do
    eval n=\$$d
    echo "$d $n" | dd of=/dev/$d bs=4096 seek=$n conv=sync,fsync,notrunc 2>/dev/null && echo "FLUSHED $d $n END" || echo "BROKEN $d write END"
    eval $d=$((n+1))
  done
  sleep 0.1
done
`

// TestUEFITwoDisksAndACD: a VM that UEFI starts, with two disks and a CD-ROM, loses
// its rack while it writes to both. What UEFI keeps, all that was flushed, and what
// lies in the drive are there after it, and once more when all power was gone.
func TestUEFITwoDisksAndACD(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	atLength(t)
	needs(t, "qemu-system-x86_64")
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		t.Skip("not tested: ovmf is not installed here ('make packages' installs it)")
	}
	guest := linuxGuest(t, keepsEverything, slices.Concat(linuxPCI, linuxDisk, linuxCD))
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importFiles(guest)
	h := s.l.Hosts[0]
	discs := map[string]string{} // image to what its guest says of it
	for _, name := range []string{"one", "two"} {
		iso := probe.CD("the disc " + name)
		path := filepath.Join(t.TempDir(), name+".iso")
		if err := os.WriteFile(path, iso, 0o600); err != nil {
			t.Fatal(err)
		}
		s.done(h, nil, "image", "import", path, "--as-is")
		discs[name] = fmt.Sprintf("%x", md5.Sum(iso))
	}
	s.done(h, nil, "vm", "create", "box", "--size", "16MiB", "--memory", "256MiB", "--firmware", "uefi", "--cdrom", "one", "--off",
		"--kernel", "kernel", "--initrd", "initrd", "--append", "console=ttyS0 quiet mitigations=off")
	s.done(h, nil, "vm", "disk", "add", "box", "--size", "16MiB", "--name", "box-data")
	s.done(h, nil, "vm", "start", "box")
	g := &keeper{scene: s, said: s.listenTo("box")}
	g.boots(1, "none", discs["one"])
	g.says("VAR set END")
	disks := []string{"box", "box-data", s.running("box", 0).Vars}
	for _, v := range disks {
		s.inSync(v)
	}

	// Its rack is lost while it writes; another disc was put in meanwhile.
	vm := s.running("box", 0)
	s.done(h, nil, "vm", "cdrom", "insert", "box", "two")
	g.says("CD " + discs["two"] + " END")
	g.writes()
	acked := g.flushed()
	s.kill(vm.Rack)
	if moved := s.running("box", vm.Assigned+1); moved.Rack == vm.Rack {
		t.Errorf("the VM runs in rack %s, which is away", moved.Rack)
	}
	g.boots(2, "kept", discs["two"])
	g.has(acked)

	// The drive is emptied while it runs.
	s.done(s.anyHost(), nil, "vm", "cdrom", "eject", "box")
	g.says("CD none END")
	g.writes()
	s.start(vm.Rack)
	s.whole()
	for _, v := range disks {
		s.inSync(v)
	}

	// All power is gone.
	acked = g.flushed()
	if err := lab.Kill(s.l.Hosts); err != nil {
		t.Fatal(err)
	}
	acked = g.latest(acked)
	for _, rack := range []string{"c", "a", "b"} {
		s.start(rack)
	}
	g.boots(3, "kept", "none")
	g.has(acked)
	g.writes()
	s.oneMachine(1)
}

// keeper is the guest, as its console shows it.
type keeper struct {
	*scene
	said *transcript
}

var (
	flushedLine = regexp.MustCompile(`FLUSHED (vda|vdb) ([0-9]+) END`)
	intactLine  = regexp.MustCompile(`INTACT (vda|vdb) ([0-9]+) END`)
	bootLine    = regexp.MustCompile(`BOOT \S+ END`)
)

// says waits until the guest has said a line since its last boot.
func (g *keeper) says(line string) {
	g.t.Helper()
	g.until("the guest to say "+line, func() (bool, string) {
		g.well()
		text, _ := g.lastBoot()
		return strings.Contains(text, line), g.said.end()
	})
}

func (g *keeper) well() {
	g.t.Helper()
	if text := g.said.String(); strings.Contains(text, "BROKEN") || strings.Contains(text, "NO-UEFI") {
		g.t.Fatalf("the guest says:\n%s", g.said.end())
	}
}

// lastBoot is what was said since the boot that is the last, and how many there
// were. A console shows again what it had shown, so that boots count by their names.
func (g *keeper) lastBoot() (text string, boots int) {
	all := g.said.String()
	at := bootLine.FindAllStringIndex(all, -1)
	if len(at) == 0 {
		return "", 0
	}
	return all[at[len(at)-1][0]:], g.said.different(bootLine)
}

// boots waits for a boot that finds a variable and a disc, and writes.
func (g *keeper) boots(n int, variable, disc string) {
	g.t.Helper()
	g.until(fmt.Sprintf("boot %d of the guest, with variable %q and disc %s", n, variable, disc), func() (bool, string) {
		g.well()
		text, boots := g.lastBoot()
		return boots == n && strings.Contains(text, "VAR "+variable+" END") && strings.Contains(text, "CD "+disc+" END") && flushedLine.MatchString(text), text
	})
}

// flushed is how many blocks of each disk the guest has said to be flushed.
func (g *keeper) flushed() [2]int { return g.latest([2]int{}) }

func (g *keeper) latest(most [2]int) [2]int {
	for _, m := range flushedLine.FindAllStringSubmatch(g.said.String(), -1) {
		n, _ := strconv.Atoi(m[2])
		i := int(m[1][2] - 'a')
		most[i] = max(most[i], n+1)
	}
	return most
}

// writes waits until both disks have got further.
func (g *keeper) writes() {
	g.t.Helper()
	was := g.flushed()
	g.until("the guest to write on to both disks", func() (bool, string) {
		g.well()
		now := g.flushed()
		return now[0] >= was[0]+10 && now[1] >= was[1]+10, fmt.Sprint(now, " after ", was, ": ", g.said.end())
	})
}

// has looks that the last boot found at least so many blocks.
func (g *keeper) has(acked [2]int) {
	g.t.Helper()
	text, _ := g.lastBoot()
	found := [2]int{}
	for _, m := range intactLine.FindAllStringSubmatch(text, -1) {
		found[m[1][2]-'a'], _ = strconv.Atoi(m[2])
	}
	g.t.Logf("flushed before: %v blocks, found: %v", acked, found)
	if found[0] < acked[0] || found[1] < acked[1] || acked[0] == 0 || acked[1] == 0 {
		g.t.Errorf("the guest had flushed %v blocks of its disks and found %v", acked, found)
	}
}
