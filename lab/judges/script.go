package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// may says which operations a script for qemu-io has.
type may struct{ zero, discard, unaligned bool }

// script makes n random operations of qemu-io within size bytes. Half of them
// lie in a sixteenth of the volume, so that they meet.
func script(rng *rand.Rand, size int64, n int, m may) string {
	var b strings.Builder
	unit := int64(512)
	for range n {
		span := size
		if rng.IntN(2) == 0 {
			span = size / 16
		}
		off := rng.Int64N(span/unit) * unit
		length := min([]int64{512, 4096, 4096, 8192, 65536, 150 * 1024, 1 << 20}[rng.IntN(7)], size-off)
		if m.unaligned && rng.IntN(8) == 0 {
			off, length = off+rng.Int64N(511), max(1, min(rng.Int64N(9000), size-off-511))
		}
		switch k := rng.IntN(100); {
		case k < 40:
			fmt.Fprintf(&b, "write -q -P %d %d %d\n", 1+rng.IntN(255), off, length)
		case k < 50:
			fmt.Fprintf(&b, "write -q -f -P %d %d %d\n", 1+rng.IntN(255), off, length)
		case k < 58 && m.zero:
			fmt.Fprintf(&b, "write -q -z %d %d\n", off, length)
		case k < 62 && m.zero:
			fmt.Fprintf(&b, "write -q -z -u %d %d\n", off, length)
		case k < 68 && m.discard:
			// QEMU lets go of whole blocks only; within them the answer is zero.
			fmt.Fprintf(&b, "discard -q %d %d\n", off&^4095, max(4096, length&^4095))
		case k < 72:
			b.WriteString("flush\n")
		default:
			fmt.Fprintf(&b, "read -q %d %d\n", off, length)
		}
	}
	return b.String()
}

// complaints returns what qemu-io printed that is no prompt.
func complaints(out string) string {
	var bad []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(strings.ReplaceAll(line, "qemu-io>", ""))
		if line != "" {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "\n")
}

// play gives a script to qemu-io.
func play(ctx context.Context, text string, args ...string) error {
	out, err := toolWith(ctx, "", text, "qemu-io", args...)
	if err != nil {
		return err
	}
	if bad := complaints(out); bad != "" {
		return fmt.Errorf("qemu-io %s:\n%s", strings.Join(args, " "), tail(bad))
	}
	return nil
}

// qemuIO writes patterns and has them verified.
func qemuIO(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "qemu-io", 64*mib, "")
	if err != nil {
		return "", err
	}
	n := 0
	for i, commands := range []string{
		"write -q -P 0x11 0 1M\nwrite -q -f -P 0x22 4096 512\nflush\nread -q -P 0x11 0 4096\nread -q -P 0x22 4096 512\nread -q -P 0x11 4608 1000\n",
		"read -q -P 0x11 5632 512\ndiscard -q 0 64k\nread -q -P 0 0 64k\nwrite -q -z 65536 131072\nread -q -P 0 64k 128k\nread -q -P 0x11 192k 64k\n",
		"write -q -z -u 256k 100k\nread -q -P 0 256k 100k\nwrite -q -P 9 1 3\nread -q -P 9 1 3\nread -q -P 0 4 60k\n",
		"aio_write -q -P 5 8M 32M\naio_flush\nread -q -P 5 8M 32M\nwrite -q -P 7 67108352 512\nread -q -P 7 67108352 512\n",
		"writev -q -P 3 41M 512 1536 4096 60k\nread -q -P 3 41M 66k\nwrite -q -z -n 41M 4k\nread -q -P 0 41M 4k\nread -q -P 3 42995712 62k\n",
	} {
		for _, h := range c.l.Hosts { // the first pass leaves what the second finds at another host
			if i == 0 || h.Name == c.l.Hosts[i%3].Name {
				if err := play(ctx, commands, "-f", "raw", "-d", "unmap", v.uri(h)); err != nil {
					return "", fmt.Errorf("host %s: %w", h.Name, err)
				}
				n += lines(commands)
			}
		}
	}
	return fmt.Sprintf("%d commands, at a different host each time", n), v.delete(ctx)
}

// sameOperations plays one random script to a plain file and to a volume, and
// has them compared.
func sameOperations(ctx context.Context, c *court) (string, error) {
	v, err := c.volume(ctx, "same", 64*mib, "")
	if err != nil {
		return "", err
	}
	ref := c.path("same.raw")
	if err := empty(ref, v.size); err != nil {
		return "", err
	}
	rounds, each := 12, 1500
	if c.o.quick {
		rounds, each = 3, 500
	}
	for i := range rounds {
		text := script(c.rng, v.size, each, may{zero: true, discard: true, unaligned: true})
		h := c.l.Hosts[i%3]
		for _, at := range []string{ref, v.uri(h)} {
			if err := play(ctx, text, "-f", "raw", "-d", "unmap", at); err != nil {
				return "", err
			}
		}
		if _, err := tool(ctx, "qemu-img", "compare", "-f", "raw", "-F", "raw", ref, v.uri(c.other(h.Name))); err != nil {
			return "", fmt.Errorf("after round %d at host %s: %w", i, h.Name, err)
		}
	}
	return fmt.Sprintf("%d random operations, %d comparisons: the same as a plain file", rounds*each, rounds), v.delete(ctx)
}

// empty makes a file of holes.
func empty(path string, size int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// blkverifyKills lets QEMU's blkverify compare every read with a plain file.
func blkverifyKills(ctx context.Context, c *court) (string, error) {
	return c.mirrored(ctx, "blkverify", may{}, func(socket, ref string) string {
		return "driver=blkverify,test.driver=nbd,test.server.type=unix,test.server.path=" + socket +
			",test.reconnect-delay=120,raw.driver=raw,raw.file.driver=file,raw.file.filename=" + ref
	})
}

// quorumKills does the same with QEMU's quorum, which also takes zeroes.
func quorumKills(ctx context.Context, c *court) (string, error) {
	return c.mirrored(ctx, "quorum", may{zero: true}, func(socket, ref string) string {
		return "driver=quorum,vote-threshold=2,blkverify=on,children.0.driver=nbd,children.0.server.type=unix,children.0.server.path=" + socket +
			",children.0.reconnect-delay=120,children.1.driver=raw,children.1.file.driver=file,children.1.file.filename=" + ref
	})
}

// mirrored plays random scripts to a volume and a plain file at once, through
// a driver that compares what they answer, at a host that only forwards, while
// the writer's rack is killed. Nothing of it may reach the initiator but a
// pause.
func (c *court) mirrored(ctx context.Context, name string, m may, options func(socket, ref string) string) (string, error) {
	v, err := c.volume(ctx, name, 64*mib, "")
	if err != nil {
		return "", err
	}
	ref := c.path(name + ".raw")
	if err := empty(ref, v.size); err != nil {
		return "", err
	}
	each, killed := 3000, 0
	if c.o.quick {
		each = 800
	}
	cycles := c.someCycles()
	for i := range cycles {
		at, err := v.forwarding(ctx)
		if err != nil {
			return "", err
		}
		done := make(chan error, 1)
		text := script(c.rng, v.size, each, m)
		go func() { done <- play(ctx, text, "--image-opts", options(v.socket(at), ref)) }()
		pause(ctx, c.within(1500e6))
		during, err := v.killWriter(ctx, at, done)
		if err != nil {
			return "", fmt.Errorf("cycle %d, at host %s: %w", i, at.Name, err)
		}
		if during {
			killed++
		}
		if _, err := tool(ctx, "qemu-img", "compare", "-f", "raw", "-F", "raw", ref, v.uri(at)); err != nil {
			return "", fmt.Errorf("cycle %d: %w", i, err)
		}
	}
	return fmt.Sprintf("%d random operations, the writer's rack killed %d times, %d of them in their midst: every read and %d comparisons agree",
		cycles*each, cycles, killed, cycles), v.delete(ctx)
}

// someCycles is a share of the cycles, for judges of which there are several.
func (c *court) someCycles() int { return max(1, c.o.cycles/5) }
