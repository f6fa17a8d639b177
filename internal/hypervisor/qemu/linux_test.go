package qemu

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// linuxGuest finds a stock Debian kernel with its modules, below the directory
// that HOLDFAST_TEST_KERNEL names (an unpacked linux-image package) or
// installed, and a static busybox; and packs them into an initrd.
func linuxGuest(t *testing.T, script string) (kernel, initrd string) {
	t.Helper()
	root := os.Getenv("HOLDFAST_TEST_KERNEL")
	kernels, _ := filepath.Glob(filepath.Join("/", root, "boot/vmlinuz-*"))
	busybox, err := exec.LookPath("busybox")
	if err != nil || len(kernels) == 0 {
		t.Skip("no Linux kernel and static busybox: install linux-image-cloud-amd64 and busybox-static, or set HOLDFAST_TEST_KERNEL")
	}
	kernel = kernels[len(kernels)-1]
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	modules := filepath.Join("/", root, "lib/modules", version, "kernel")
	var ar bytes.Buffer
	zip := gzip.NewWriter(&ar)
	files := map[string]string{"init": "#!/bin/busybox sh\n" + script, "udhcpc": dhcpScript}
	for name, path := range map[string]string{"bin/busybox": busybox} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	for _, m := range guestModules {
		b, err := os.ReadFile(filepath.Join(modules, m+".ko"))
		if err == nil { // else it is part of the kernel
			files["mod/"+filepath.Base(m)+".ko"] = string(b)
		}
	}
	for _, dir := range []string{"bin", "mod", "proc", "sys", "dev"} {
		cpio(zip, dir, 0o40755, "")
	}
	for name, content := range files {
		cpio(zip, name, 0o100755, content)
	}
	cpio(zip, "TRAILER!!!", 0, "")
	zip.Close()
	initrd = filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, ar.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return kernel, initrd
}

var guestModules = []string{
	"drivers/virtio/virtio", "drivers/virtio/virtio_ring", "drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net", "net/packet/af_packet",
}

const dhcpScript = `#!/bin/busybox sh
[ "$1" = bound ] || exit 0
/bin/busybox ip addr add $ip/24 dev eth0
/bin/busybox ip route add default via $router
echo "lease $ip via $router dns $dns"
`

// cpio writes one member of a "newc" archive.
func cpio(w io.Writer, name string, mode int, content string) {
	fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	io.WriteString(w, strings.Repeat("\x00", (4-(110+len(name)+1)%4)%4)+content+strings.Repeat("\x00", (4-len(content)%4)%4))
}

const isolationScript = `
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for m in virtio virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net af_packet; do
  [ -f /mod/$m.ko ] && insmod /mod/$m.ko
done
ip link set lo up; ip link set eth0 up
udhcpc -i eth0 -s /udhcpc -q -n -t 30
nc -ll -p 8080 -e echo "hello from the guest" &
w=60 # seconds for the first, which answers; the others must not
for t in $(tr ' ' '\n' </proc/cmdline | grep '^try=' | cut -c5- | tr ',' ' '); do
  if [ "$(nc -w $w ${t%:*} ${t#*:} </dev/null)" = secret ]; then echo "reach $t yes"; else echo "reach $t no"; fi
  w=5
done
i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done
echo tried
while read line; do
  if [ "$(nc -w 5 ${line%:*} ${line#*:} </dev/null)" = secret ]; then echo "again $line yes"; else echo "again $line no"; fi
done
`

// listen serves "secret" to whoever connects.
func listen(t *testing.T, addr string) int {
	t.Helper()
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "secret\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// outside makes a computer beyond this one, in a network namespace, which
// serves "secret" at port 7; it returns its address and the network between,
// which no other run of this test has.
func outside(t *testing.T) (far string, between netip.Prefix) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	ns := fmt.Sprintf("hvt%d", os.Getpid()%100000)
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", args, err, out)
		}
	}
	run("ip", "netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	run("ip", "link", "add", ns, "type", "veth", "peer", "name", "eth0", "netns", ns)
	t.Cleanup(func() { exec.Command("ip", "link", "del", ns).Run() })
	pid := os.Getpid()
	at := [4]byte{198, 18 + byte(pid>>14&1), byte(pid >> 6), byte(pid<<2) | 1}
	near := netip.PrefixFrom(netip.AddrFrom4(at), 30)
	far = near.Addr().Next().String()
	run("ip", "addr", "add", near.String(), "dev", ns)
	run("ip", "link", "set", ns, "up")
	run("ip", "netns", "exec", ns, "ip", "addr", "add", far+"/30", "dev", "eth0")
	run("ip", "netns", "exec", ns, "ip", "link", "set", "eth0", "up")
	server := exec.Command("ip", "netns", "exec", ns, "busybox", "nc", "-ll", "-p", "7", "-e", "echo", "secret")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	return far, near.Masked()
}

func TestAGuestReachesTheOutsideButNoListenerOfAHost(t *testing.T) {
	far, between := outside(t)
	near := listen(t, "0.0.0.0:0")
	targets := []string{fmt.Sprintf("%s:7", far), fmt.Sprintf("10.0.2.2:%d", near), "169.254.169.254:80"}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			targets = append(targets, fmt.Sprintf("%s:%d", n.IP, near))
		}
	}
	targets = append(targets, fmt.Sprintf("127.1.2.3:%d", near))
	kernel, initrd := linuxGuest(t, isolationScript)
	h := newHypervisor(t, shortDir(t))
	m := start(t, h, hypervisor.Spec{VM: vmID, Name: "linux", CPUs: 1, MemoryMiB: 256, Kernel: kernel, Initrd: initrd,
		Append: "console=ttyS0 quiet try=" + strings.Join(targets, ","), NIC: &hypervisor.NIC{MAC: "52:54:00:12:34:56"}})
	said := func(what string) func() bool {
		return func() bool { return strings.Contains(string(m.History()), what) }
	}
	defer func() {
		if t.Failed() {
			log, _ := os.ReadFile(h.dir(vmID).logPath())
			t.Logf("the guest said:\n%s\nand its processes:\n%s", m.History(), log)
		}
	}()
	eventually(t, "the guest has tried everything", said("tried"))
	// Nobody reads from the serial port as fast as a guest writes. Every line is
	// there, once.
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, "line %d\r\n", i)
	}
	if !said(lines.String())() {
		t.Error("the serial port's history lacks or repeats something")
	}
	if !said("lease 10.0.2.15 via 10.0.2.2 dns 10.0.2.2")() {
		t.Error("no lease")
	}
	if !said("reach " + targets[0] + " yes")() {
		t.Errorf("the guest does not reach %s outside", targets[0])
	}
	for _, target := range targets[1:] {
		if !said("reach " + target + " no")() {
			t.Errorf("the guest reached %s, a listener of this host", target)
		}
	}
	// What is outside now may be denied while the machine runs.
	if err := h.SetDeny([]netip.Prefix{between}); err != nil {
		t.Fatal(err)
	}
	c, err := m.Console()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "%s:7\n", far)
	// The console brings a line in pieces: what is waited for is its end.
	again := "again " + far + ":7 "
	eventually(t, "the guest has tried again", func() bool { return said(again+"no")() || said(again+"yes")() })
	if said(again + "yes")() {
		t.Error("the guest reached a denied network")
	}
	in, err := m.Dial(8080)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if b, err := io.ReadAll(in); string(b) != "hello from the guest\n" {
		t.Errorf("from the guest's port came %q, %v", b, err)
	}
	if _, err := m.Dial(9999); err == nil {
		t.Error("a closed port of the guest answered")
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
}
