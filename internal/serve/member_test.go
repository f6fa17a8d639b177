package serve

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/fence/cgroup"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/guestnet"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/qemu"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

// The test binary stands in for the program: a host starts its watchdog, and
// tries how machines can be confined.
func TestMain(m *testing.M) {
	programtest.Main()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "watchdog":
			os.Exit(cgroup.Main(os.Args[2:], func(string) ([]cgroup.Victim, error) { return nil, nil }))
		case "jail":
			os.Exit(qemu.JailMain(os.Args[2:]))
		case "guestnet":
			os.Exit(guestnet.Main(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// box is one computer with a host process.
type box struct {
	t    *testing.T
	conf config.Config
	host *Host
	api  *client.Client
}

// newBox starts a host on a loopback address of its own; n is no other test's.
func newBox(t *testing.T, n int, rack string) *box { return newBoxWith(t, n, rack, "") }

// newBoxWith is newBox with more lines of configuration.
func newBoxWith(t *testing.T, n int, rack, more string) *box {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("QEMU is not installed")
	}
	dir, err := os.MkdirTemp("/tmp", "box") // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("name: box%d\nrack: %s\ndata_dir: %s\nadvertise: 127.91.%d.%d\naccelerator: tcg\n%s", n, rack, dir, os.Getpid()%250+1, n, more)
	conf, err := config.Parse([]byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, conf: conf}
	b.start()
	t.Cleanup(func() {
		b.stop()
		os.RemoveAll(dir)
	})
	return b
}

func (b *box) start() {
	b.t.Helper()
	var h *Host
	b.soon("a start", func() (err error) {
		h, err = Start(Options{Config: b.conf, Version: "test", Log: slog.New(slog.DiscardHandler)})
		if err != nil && !holdfast.IsKind(err, holdfast.Busy) { // a program that another host here is just starting may hold the lock until it runs
			b.t.Fatal(err)
		}
		return err
	})
	b.host, b.api = h, client.Socket(b.conf.Socket)
}

func (b *box) stop() {
	if b.host != nil {
		b.api.Close()
		b.host.Stop()
		b.host = nil
	}
}

// code makes a join code at this host.
func (b *box) code(s v1.JoinCodeSpec) v1.JoinCode {
	b.t.Helper()
	text, err := b.api.CreateJoinCode(context.Background(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := v1.ParseJoinCode(text.Code)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *box) join(c v1.JoinCode) error {
	_, err := b.api.JoinSelf(context.Background(), v1.HostJoin{Code: c.String()})
	return err
}

// refused checks that a code admits nobody and says why.
func (b *box) refused(what string, c v1.JoinCode, say string) {
	b.t.Helper()
	err := b.join(c)
	if !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), say) {
		b.t.Errorf("%s: %v", what, err)
	}
	if self, err := b.api.Self(context.Background()); err != nil || self.InCluster {
		b.t.Fatalf("%s: %+v, %v", what, self, err)
	}
	if _, err := os.Stat(filepath.Join(b.conf.DataDir, "cluster.json")); !os.IsNotExist(err) {
		b.t.Errorf("%s: something was kept: %v", what, err)
	}
}

// until polls for what the control plane does by its own clock.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// Real hosts over real sockets: codes of every sort, a member that is removed.
func TestCodesAdmitOnceAndInTime(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a, b := newBox(t, 1, "a"), newBox(t, 2, "a") // b votes not: rack a has a member
	if _, err := a.api.InitCluster(ctx, v1.ClusterInit{Name: "field"}); err != nil {
		t.Fatal(err)
	}
	const useless = "wrong, has expired or was used"
	good := a.code(v1.JoinCodeSpec{})
	wrong := good
	wrong.Secret = make([]byte, 16)
	rand.Read(wrong.Secret)
	b.refused("a wrong secret", wrong, useless)
	foreign := good
	foreign.CA[31] ^= 1
	b.refused("a foreign authority", foreign, "not of the cluster that made this join code")
	b.refused("another rack", a.code(v1.JoinCodeSpec{Rack: "b"}), `is for rack "b"`)
	revoked := a.code(v1.JoinCodeSpec{})
	if err := a.api.RevokeJoinCode(ctx, revoked.ID()[:12]); err != nil {
		t.Fatal(err)
	}
	b.refused("a revoked code", revoked, useless)
	short := a.code(v1.JoinCodeSpec{Seconds: 1})
	until(t, "the short code ends", func() bool { return !open(t, a, short) })
	b.refused("an expired code", short, useless)
	if !open(t, a, good) {
		t.Fatal("the good code is gone")
	}
	if err := b.join(good); err != nil {
		t.Fatal(err)
	}
	if err := a.api.RevokeJoinCode(ctx, good.ID()); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a spent code is revoked: %v", err)
	}
	c := newBox(t, 3, "a")
	c.refused("a spent code", good, useless)
	removed(t, a, b)
}

func open(t *testing.T, b *box, c v1.JoinCode) bool {
	t.Helper()
	codes, err := b.api.JoinCodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range codes {
		if k.ID == c.ID() {
			return true
		}
	}
	return false
}

// removed strikes b, whose certificate then opens nothing, and ends the
// connections that it has opened.
func removed(t *testing.T, a, b *box) {
	ctx := context.Background()
	creds, err := auth.LoadCredentials(filepath.Join(b.conf.DataDir, "pki"), "host")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.api.RemoveHost(ctx, "box2", v1.RemovalSpec{Lost: true}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Fatalf("a living host is removed: %v", err)
	}
	b.stop()
	ports := []string{a.conf.Listen.EtcdClient, a.conf.Listen.EtcdPeer, a.conf.Listen.API}
	var held []net.Conn
	for _, addr := range ports[:2] {
		c, err := said(addr, auth.ClientTLS(creds, nil), "")
		if err != nil {
			t.Fatalf("a member does not get through to %s: %v", addr, err)
		}
		defer c.Close()
		held = append(held, c)
	}
	until(t, "the host is away and removed", func() bool {
		_, err := a.api.RemoveHost(ctx, "box2", v1.RemovalSpec{Lost: true})
		if err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
			t.Fatal(err)
		}
		return err == nil
	})
	for i, c := range held {
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("an open connection to %s is not cut", ports[i])
		}
	}
	if !refuses(ports[0], auth.ClientTLS(creds, nil)) {
		t.Error("the removed host is not told that it is one")
	}
	for _, addr := range ports {
		c, err := said(addr, auth.ClientTLS(creds, nil), "")
		if err != nil {
			continue
		}
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("the certificate of a removed host opens %s: %v", addr, err)
		}
		c.Close()
	}
}
