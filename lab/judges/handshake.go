package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// said is what nbdinfo --json says of an export.
type said struct {
	Protocol string
	TLS      bool
	Exports  []struct {
		Size    int64    `json:"export-size"`
		Min     int      `json:"block_size_minimum"`
		Pref    int      `json:"block_size_preferred"`
		Max     int      `json:"block_size_maximum"`
		Flush   bool     `json:"can_flush"`
		FUA     bool     `json:"can_fua"`
		Trim    bool     `json:"can_trim"`
		Zero    bool     `json:"can_zero"`
		RO      bool     `json:"is_read_only"`
		Context []string `json:"contexts"`
	}
}

// check compares with what a writable volume has to offer.
func (s said) check(size int64) error {
	if s.Protocol != "newstyle-fixed" || len(s.Exports) != 1 {
		return fmt.Errorf("nbdinfo: protocol %q, %d exports", s.Protocol, len(s.Exports))
	}
	x := s.Exports[0]
	if x.Size != size || !x.Flush || !x.FUA || !x.Trim || !x.Zero || x.RO || x.Min < 1 || x.Pref < 4096 || x.Max < mib ||
		!strings.Contains(strings.Join(x.Context, " "), "base:allocation") {
		return fmt.Errorf("nbdinfo says of a writable volume of %d bytes: %+v", size, x)
	}
	return nil
}

func describe(ctx context.Context, uri string, size int64) error {
	out, err := tool(ctx, "nbdinfo", "--json", uri)
	if err != nil {
		return err
	}
	var s said
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return fmt.Errorf("nbdinfo --json: %w\n%s", err, out)
	}
	return s.check(size)
}

// nbdinfo asks every host's socket for what is offered and for the map.
func nbdinfo(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "nbdinfo", 40*mib, "")
	if err != nil {
		return "", err
	}
	for _, h := range c.l.Hosts {
		if err := describe(ctx, v.uri(h), v.size); err != nil {
			return "", fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	w, err := v.writer(ctx)
	if err != nil {
		return "", err
	}
	if _, err := tool(ctx, "qemu-io", "-f", "raw", "-c", "write -P 7 1M 256k", "-c", "write -P 8 20M 8k", "-c", "write -z 21M 1M", v.uri(w)); err != nil {
		return "", err
	}
	out, err := tool(ctx, "nbdinfo", "--map", v.uri(w))
	if err != nil {
		return "", err
	}
	want := "0 1048576 3 hole,zero 1048576 262144 0 data 1310720 19660800 3 hole,zero 20971520 8192 0 data 20979712 20963328 3 hole,zero"
	if got := strings.Join(strings.Fields(out), " "); got != want {
		return "", fmt.Errorf("nbdinfo --map at the writer: %s\nwant: %s", got, want)
	}
	by, err := v.bystander(ctx)
	if err != nil {
		return "", err
	}
	if out, err = tool(ctx, "nbdinfo", "--map=base:allocation", v.uri(by)); err != nil {
		return "", err
	}
	if got := strings.Join(strings.Fields(out), " "); got != want {
		return "", fmt.Errorf("nbdinfo --map at host %s, which forwards: %s\nwant: %s", by.Name, got, want)
	}
	return "what 3 hosts offer; the map at the writer and forwarded", v.delete(ctx)
}

// nbdinfoTLS gets in at every host with the cluster's certificate, and not
// without it or with one of somebody else's.
func nbdinfoTLS(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "nbdinfo-tls", 8*mib, "")
	if err != nil {
		return "", err
	}
	foreign, bare := c.path("tls-foreign"), c.path("tls-bare")
	if err := foreignCertificate(ctx, c.path("tls"), foreign, bare); err != nil {
		return "", err
	}
	for _, h := range c.l.Hosts {
		if err := describe(ctx, v.tls(h, c.path("tls")), v.size); err != nil {
			return "", fmt.Errorf("host %s: %w", h.Name, err)
		}
		if out, err := tool(ctx, "nbdinfo", "--list", fmt.Sprintf("nbds://%s:%d/?tls-certificates=%s", h.Addr, portNBD, c.path("tls"))); err != nil || !strings.Contains(out, `export="nbdinfo-tls"`) {
			return "", fmt.Errorf("nbdinfo --list at host %s: %v\n%s", h.Name, err, out)
		}
		for _, uri := range []string{v.tls(h, foreign), v.tls(h, bare), fmt.Sprintf("nbd://%s:%d/%s", h.Addr, portNBD, v.name)} {
			if out, err := refused(ctx, "nbdinfo", uri); err != nil || strings.Contains(out, "export-size") {
				return "", fmt.Errorf("host %s, %s: %v\n%s", h.Name, uri, err, out)
			}
		}
	}
	return "3 hosts let the cluster's certificate in, and refuse a foreign one, none, and plain TCP", v.delete(ctx)
}

// foreignCertificate makes a directory with a certificate that another
// authority signed, and one without any; both trust the cluster's authority.
func foreignCertificate(ctx context.Context, good, foreign, bare string) error {
	ca, err := os.ReadFile(filepath.Join(good, "ca-cert.pem"))
	if err != nil {
		return err
	}
	for _, dir := range []string{foreign, bare} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "ca-cert.pem"), ca, 0o600); err != nil {
			return err
		}
	}
	_, err = tool(ctx, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=admin",
		"-keyout", filepath.Join(foreign, "client-key.pem"), "-out", filepath.Join(foreign, "client-cert.pem"))
	return err
}

// nbdClient is the NBD project's own client; without the kernel's half it can
// only list.
func nbdClient(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "nbd-client", 8*mib, "")
	if err != nil {
		return "", err
	}
	for _, h := range c.l.Hosts {
		dir := c.path("tls")
		out, err := tool(ctx, "nbd-client", "-l", h.Addr, fmt.Sprint(portNBD), "-certfile", filepath.Join(dir, "client-cert.pem"),
			"-keyfile", filepath.Join(dir, "client-key.pem"), "-cacertfile", filepath.Join(dir, "ca-cert.pem"), "-tlshostname", h.Addr)
		if err != nil || !strings.Contains(out, v.name) {
			return "", fmt.Errorf("host %s: %v\n%s", h.Name, err, out)
		}
		if out, err := tool(ctx, "nbd-client", "-unix", v.socket(h), "-l"); err != nil || !strings.Contains(out, v.name) {
			return "", fmt.Errorf("socket of host %s: %v\n%s", h.Name, err, out)
		}
		if out, err := refused(ctx, "nbd-client", "-l", h.Addr, fmt.Sprint(portNBD)); err != nil {
			return "", fmt.Errorf("%v\n%s", err, out)
		}
	}
	return "lists the exports of 3 hosts by TLS and by socket; refused without TLS", v.delete(ctx)
}
