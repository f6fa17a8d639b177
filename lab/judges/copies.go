package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
)

// noisy writes a file of noise in which every fourth 64 KiB is a hole.
func noisy(path string, size int64, seed uint64) error {
	b := make([]byte, size)
	r := rand.NewPCG(seed, 1)
	for o := int64(0); o < size; o += 8 {
		if o>>16&3 != 3 {
			u := r.Uint64()
			for i := range 8 {
				b[o+int64(i)] = byte(u >> (8 * i))
			}
		}
	}
	return os.WriteFile(path, b, 0o600)
}

// nbdcopy copies a file to a volume at one host and back at another one, by
// socket and by TLS.
func nbdcopy(ctx context.Context, c *court) (string, error) {
	size := int64(64 * mib)
	if c.o.quick {
		size = 8 * mib
	}
	v, err := c.volume(ctx, "nbdcopy", size, "")
	if err != nil {
		return "", err
	}
	src, back := c.path("copy.src"), c.path("copy.back")
	n := 0
	for i, h := range c.l.Hosts {
		if err := noisy(src, v.size, uint64(i)); err != nil {
			return "", err
		}
		to := v.uri(h)
		if i == 1 {
			to = v.tls(h, c.path("tls"))
		}
		if _, err := tool(ctx, "nbdcopy", "--flush", src, to); err != nil {
			return "", err
		}
		for _, from := range []string{v.uri(c.l.Hosts[(i+1)%3]), v.tls(c.l.Hosts[(i+2)%3], c.path("tls"))} {
			_ = os.Remove(back)
			if _, err := tool(ctx, "nbdcopy", from, back); err != nil {
				return "", err
			}
			if _, err := tool(ctx, "cmp", src, back); err != nil {
				return "", fmt.Errorf("copied to %s and back from %s: %w", to, from, err)
			}
			n += 2
		}
	}
	return fmt.Sprintf("%d copies of %d MiB between hosts, by socket and by TLS, are the same", n, v.size/mib), v.delete(ctx)
}

// qemuImg converts to and from a volume, and keeps a qcow2 file system of its
// own on one.
func qemuImg(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "qemu-img", 64*mib, "")
	if err != nil {
		return "", err
	}
	h, by := c.l.Hosts[0], c.l.Hosts[2]
	src, q := c.path("img.src"), c.path("img.qcow2")
	if err := noisy(src, v.size, 9); err != nil {
		return "", err
	}
	inner := v.size / 2
	for _, args := range [][]string{
		{"convert", "-n", "-f", "raw", "-O", "raw", src, v.uri(h)},
		{"compare", "-f", "raw", "-F", "raw", src, v.uri(by)},
		{"convert", "-f", "raw", "-O", "qcow2", v.uri(by), q},
		{"compare", "-f", "raw", "-F", "qcow2", src, q},
		{"check", q},
		// A whole qcow2, its tables and all, on the volume.
		{"create", "-q", "-f", "qcow2", v.uri(h), fmt.Sprint(inner)},
		{"bench", "-f", "qcow2", "-w", "-c", "2000", "-d", "16", "-s", "65536", "-S", "196608", "--flush-interval", "64", v.uri(h)},
		{"check", "-f", "qcow2", v.uri(by)},
		{"map", "-f", "qcow2", "--output=json", v.uri(by)},
	} {
		if _, err := tool(ctx, "qemu-img", args...); err != nil {
			return "", err
		}
	}
	return "convert both ways, compare, map; a qcow2 on a volume, 2000 writes into it, its check is clean", v.delete(ctx)
}
