package mdns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// onLink runs f on a link of its own, at 10.9.0.1, which nobody else is on.
func onLink(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		t.Skip("a network of one's own takes root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its network
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		for _, line := range []string{"link set lo up", "link add d0 type veth peer name d1", "addr add 10.9.0.1/24 dev d0", "link set d0 up", "link set d1 up"} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v: %s", line, err, out)
				return
			}
		}
		f()
	}()
	<-done
}

func TestWhoAsksOnTheLinkFindsThisHost(t *testing.T) {
	onLink(t, func() {
		me := netip.MustParseAddr("10.9.0.1")
		first, err := Answer([]string{"field.local", "other.local"}, me)
		if err != nil {
			t.Error(err)
			return
		}
		second, err := Answer([]string{"field.local"}, me) // another program of this machine
		if err != nil {
			t.Error(err)
			return
		}
		defer second.Close()
		at, _ := net.ResolveUDPAddr("udp4", mdns.DefaultAddressIPv4)
		c, err := net.ListenUDP("udp4", at)
		if err != nil {
			t.Error(err)
			return
		}
		on, err := net.InterfaceByName("d0")
		if err != nil {
			t.Error(err)
			return
		}
		phone, err := mdns.NewServer(ipv4.NewPacketConn(c), nil, mdns.WithInterfaces(*on), mdns.WithLoggerFactory(quiet{}))
		if err != nil {
			t.Error(err)
			return
		}
		defer phone.Close()
		ask := func(name string, limit time.Duration) string {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			_, addr, err := phone.QueryAddr(ctx, name)
			if err != nil {
				return ""
			}
			return addr.WithZone("").String()
		}
		for _, name := range []string{"field.local", "other.local", "FIELD.local"} {
			if got := ask(name, 20*time.Second); got != "10.9.0.1" {
				t.Errorf("%s is at %q", name, got)
			}
		}
		if got := ask("nobody.local", time.Second); got != "" {
			t.Errorf("nobody.local is at %s", got)
		}
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAddressThatIsNotHere(t *testing.T) {
	if c, err := Answer([]string{"field.local"}, netip.MustParseAddr("192.0.2.77")); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("%v, %v", c, err)
	}
}
