package lab

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// A lab may have a network of its own (ADR 0064): every host lives in a network
// namespace with one interface, which leads to a router in one more. Nothing
// leads out of there. What connects hosts can be cut and made bad at the router
// (links.go), as racks are connected by cables that break.

const (
	netnsDir   = "/run/netns" // where ip(8) looks for namespaces
	routerName = "router"
	hostDevice = "eth0"

	// maxNetnsHosts bounds the pairs of hosts, each of which may be a rule.
	maxNetnsHosts = 32
)

// Network is a lab's own network.
type Network struct {
	ID      string `json:"id"`      // its namespaces are ID-HOST and ID-router
	Program string `json:"program"` // that carries its lines
	Cuts    []Way  `json:"cuts,omitempty"`
	Lines   []Line `json:"lines,omitempty"`
}

func (n *Network) router() string { return n.ID + "-" + routerName }

// routerAddr is the router's end of every cable, and hostAddr a host's address.
// 198.18.0.0/15 is set aside for testing networks (RFC 2544, appendix C.2.2):
// two labs may use the same addresses, because neither sees the other.
func routerAddr() net.IP           { return net.IPv4(198, 18, 255, 254) }
func hostAddr(rack, n int) string  { return fmt.Sprintf("198.18.%d.%d", rack, n) }
func single(ip net.IP) *net.IPNet  { return &net.IPNet{IP: ip.To4(), Mask: net.CIDRMask(32, 32)} }
func (h Host) address() *net.IPNet { return single(net.ParseIP(h.Addr)) }

// CanNetns says why labs cannot have networks of their own here: kind Denied
// without root's rights, Unavailable where the kernel has no namespaces.
func CanNetns() error {
	if os.Geteuid() != 0 {
		return holdfast.Errorf(holdfast.Denied, "a lab with a network of its own makes network namespaces, which only root may: run it as root, or leave --netns out")
	}
	err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "network namespaces cannot be made here: %w; in a container it has to be allowed (CAP_SYS_ADMIN), or leave --netns out", err)
	}
	return nil
}

// onThread runs f on a thread of its own, which ends with it: f may enter
// namespaces, and what it starts is born in them.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: so the thread ends here, too
		done <- f()
	}()
	return <-done
}

// inside runs f in a network namespace.
func inside(name string, f func() error) error {
	return onThread(func() error {
		fd, err := openNetns(name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return holdfast.Errorf(holdfast.Denied, "enter the network namespace %s: %w", name, err)
		}
		return f()
	})
}

func openNetns(name string) (int, error) {
	fd, err := unix.Open(filepath.Join(netnsDir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, holdfast.Errorf(holdfast.NotFound, "the network namespace %s is gone: %w; 'holdfast lab up' makes it anew", name, err)
	}
	return fd, nil
}

// giveNetwork plans a network for a new lab and gives its hosts addresses.
func (l *Lab) giveNetwork(program string) error {
	if err := CanNetns(); err != nil {
		return err
	}
	if len(l.Hosts) > maxNetnsHosts {
		return holdfast.Errorf(holdfast.Invalid, "%d hosts: a lab with a network of its own has at most %d", len(l.Hosts), maxNetnsHosts)
	}
	sum := fnv.New32a()
	sum.Write([]byte(l.Dir))
	for i := range uint32(100) {
		id := fmt.Sprintf("hf%05x", (sum.Sum32()+i)&0xfffff)
		if others, _ := filepath.Glob(filepath.Join(netnsDir, id+"-*")); len(others) == 0 {
			l.Network = &Network{ID: id, Program: program}
			break
		}
	}
	if l.Network == nil {
		return holdfast.Errorf(holdfast.Exists, "%s is full of namespaces of other labs; take them down", netnsDir)
	}
	racks := l.racks()
	for i := range l.Hosts {
		h := &l.Hosts[i]
		h.Netns = l.Network.ID + "-" + h.Name
		n, err := strconv.Atoi(strings.TrimPrefix(h.Name, h.Rack))
		if err != nil {
			return err
		}
		for r, rack := range racks {
			if rack == h.Rack {
				h.Addr = hostAddr(r+1, n)
			}
		}
	}
	return nil
}

// raise makes what there is not yet of the lab's network, and cuts what is cut.
func (l *Lab) raise() error {
	if l.Network == nil {
		return nil
	}
	if err := CanNetns(); err != nil {
		return err
	}
	router := l.Network.router()
	fresh, err := makeNetns(router)
	if err == nil && fresh {
		err = inside(router, beRouter)
	}
	for i := 0; err == nil && i < len(l.Hosts); i++ {
		err = l.Hosts[i].plug(router)
	}
	if err != nil {
		return err
	}
	return l.apply()
}

// makeNetns makes a named network namespace, unless it is there.
func makeNetns(name string) (fresh bool, err error) {
	path := filepath.Join(netnsDir, name)
	if isNetns(path) {
		return false, nil
	}
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return false, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return false, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		_ = os.Remove(path)
		return false, holdfast.Errorf(holdfast.Unavailable, "make the network namespace %s: %w", name, err)
	}
	return true, nil
}

// nsfs is the type of the file system of namespaces (statfs(2): NSFS_MAGIC).
const nsfs = 0x6e736673

func isNetns(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == nsfs
}

// beRouter makes the present namespace forward.
func beRouter() error {
	if err := upLoopback(); err != nil {
		return err
	}
	for key, value := range map[string]string{
		"ip_forward": "1", "conf/all/rp_filter": "0", "conf/default/rp_filter": "0",
		"conf/all/send_redirects": "0", "conf/default/send_redirects": "0",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", key), []byte(value), 0); err != nil {
			return holdfast.Errorf(holdfast.Denied, "the lab's router: %w", err)
		}
	}
	return nil
}

func upLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	return plugged("lo", err)
}

func plugged(what string, err error) error {
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "the lab's network, %s: %w", what, err)
	}
	return nil
}

// plug makes a host's namespace and the cable from there to the router.
func (h Host) plug(router string) error {
	fresh, err := makeNetns(h.Netns)
	if err != nil {
		return err
	}
	err = inside(router, func() error {
		old, err := netlink.LinkByName(h.Name)
		switch {
		case err != nil:
			fresh = true
		case fresh: // it led to a namespace that is gone, as the kernel has yet to see
			_ = netlink.LinkDel(old)
		}
		if !fresh {
			return nil
		}
		return h.cable()
	})
	if err != nil || !fresh {
		return plugged("host "+h.Name, err)
	}
	return plugged("host "+h.Name, inside(h.Netns, h.ownEnd))
}

// cable lays a cable from the router, which is where this is called, to the host.
func (h Host) cable() error {
	fd, err := openNetns(h.Netns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = h.Name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: hostDevice, PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	end, err := netlink.LinkByName(h.Name)
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.AddrAdd(end, &netlink.Addr{IPNet: single(routerAddr())}),
		netlink.LinkSetUp(end),
		netlink.RouteAdd(&netlink.Route{LinkIndex: end.Attrs().Index, Dst: h.address(), Scope: netlink.SCOPE_LINK}))
}

// ownEnd sets up the host's end of its cable, in its namespace.
func (h Host) ownEnd() error {
	if err := upLoopback(); err != nil {
		return err
	}
	end, err := netlink.LinkByName(hostDevice)
	if err != nil {
		return err
	}
	index := end.Attrs().Index
	return errors.Join(
		netlink.AddrAdd(end, &netlink.Addr{IPNet: h.address()}),
		netlink.LinkSetUp(end),
		netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: single(routerAddr()), Scope: netlink.SCOPE_LINK}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: routerAddr()}))
}

// raze removes the lab's network. Its processes are gone by then.
func (l *Lab) raze() error {
	if l.Network == nil {
		return nil
	}
	if err := l.endLine(); err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(netnsDir, l.Network.ID+"-*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		for isNetns(path) {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				return holdfast.Errorf(holdfast.Denied, "remove the network namespace %s: %w; run it as root", path, err)
			}
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return holdfast.Errorf(holdfast.IO, "remove the network namespace %s: %w", path, err)
		}
	}
	return nil
}
