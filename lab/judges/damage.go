package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	blockSize = 4096
	ownMagic  = "a judge's block:"
)

// ownBlock is a block that says itself which it is, so that it can be found in
// the file of a disk.
func ownBlock(addr, version uint64) []byte {
	b := append(make([]byte, 0, blockSize), ownMagic...)
	b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, addr), version)
	for r := rand.NewPCG(addr, version); len(b) < blockSize; {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

// damagedFiles fills a volume twice, spoils blocks in the file of its writer's
// disk, has all of it read by nbdcopy and compares; then the same with the
// other copy, after the first one's rack is gone.
func damagedFiles(ctx context.Context, c *court) (string, error) {
	const blocks = 4096
	v, err := c.volume(ctx, "damaged", blocks*blockSize, "")
	if err != nil {
		return "", err
	}
	n := 400
	if c.o.quick {
		n = 100
	}
	src := c.path("damaged.src")
	for version := uint64(1); version <= 2; version++ {
		var all []byte
		for addr := range uint64(blocks) {
			all = append(all, ownBlock(addr, version)...)
		}
		if err := os.WriteFile(src, all, 0o600); err != nil {
			return "", err
		}
		if _, err := tool(ctx, "nbdcopy", "--flush", src, v.uri(c.l.Hosts[int(version)%3])); err != nil {
			return "", err
		}
	}
	total, disks := 0, 2
	if c.o.quick {
		disks = 1
	}
	for i := range disks {
		spoilt, err := c.spoilWriter(ctx, v, src, blocks, n)
		if err != nil {
			return "", err
		}
		if total += spoilt; i == disks-1 {
			break
		}
		w, err := v.writer(ctx) // the other copy has its turn
		if err != nil {
			return "", err
		}
		if err := lab.Kill([]lab.Host{w}); err != nil {
			return "", err
		}
		if err := v.served(ctx, c.other(w.Name)); err != nil {
			return "", err
		}
		if err := errors.Join(c.start(ctx, w), c.whole(ctx)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d blocks spoilt in the files of %d disks (flipped bits, swapped, rolled back): none read wrong, all restored and reported", total, disks), v.delete(ctx)
}

// spoilWriter damages the writer's disk, reads everything and counts.
func (c *court) spoilWriter(ctx context.Context, v *volume, src string, blocks, n int) (int, error) {
	w, err := v.writer(ctx)
	if err != nil {
		return 0, err
	}
	before, err := c.restored(ctx, w)
	if err != nil {
		return 0, err
	}
	bad, err := c.spoil(w.Disk(), blocks, n)
	if err != nil {
		return 0, err
	}
	back := c.path("damaged.back")
	for range 2 { // the second time there is nothing to restore
		_ = os.Remove(back)
		if _, err := tool(ctx, "nbdcopy", v.uri(c.other()), back); err != nil {
			return 0, err
		}
		if _, err := tool(ctx, "cmp", src, back); err != nil {
			return 0, fmt.Errorf("after %d blocks of host %s were spoilt: %w", bad, w.Name, err)
		}
	}
	err = until(ctx, "the damage to be reported", func() (bool, string) {
		now, err := c.restored(ctx, w)
		return err == nil && now-before == bad, fmt.Sprintf("host %s reports %d blocks restored of %d that were spoilt, %v", w.Name, now-before, bad, err)
	})
	return bad, err
}

// restored is how many blocks the disks of a host reported as restored.
func (c *court) restored(ctx context.Context, h lab.Host) (n int, err error) {
	st, err := ask(ctx, c, func(ctx context.Context, cl *client.Client) (v1.Status, error) { return cl.Status(ctx) })
	said := regexp.MustCompile(`of host ` + h.Name + ` gave bytes that failed their hash \d+ times; (\d+) blocks were restored`)
	for _, cond := range st.Conditions {
		if m := said.FindStringSubmatch(cond.Text); m != nil {
			n, _ = strconv.Atoi(m[1])
		}
	}
	return n, err
}

// spoil damages n blocks of version 2 in a disk's file, wherever it has them.
func (c *court) spoil(path string, blocks, n int) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	where, err := findBlocks(f, blocks)
	if err != nil {
		return 0, err
	}
	put := func(addr int, data []byte) error {
		for _, off := range where[addr] {
			if _, err := f.WriteAt(data, off); err != nil {
				return err
			}
		}
		return nil
	}
	bad := map[int]bool{}
	for len(bad) < n {
		a, b := c.rng.IntN(blocks), c.rng.IntN(blocks)
		if bad[a] || bad[b] || a == b {
			continue
		}
		if len(where[a]) == 0 || len(where[b]) == 0 {
			return 0, fmt.Errorf("block %d or %d is not on %s", a, b, path)
		}
		bad[a] = true
		switch c.rng.IntN(3) {
		case 0:
			flipped := ownBlock(uint64(a), 2)
			flipped[c.rng.IntN(blockSize)] ^= 1 << c.rng.IntN(8)
			err = put(a, flipped)
		case 1:
			bad[b] = true
			err = errors.Join(put(a, ownBlock(uint64(b), 2)), put(b, ownBlock(uint64(a), 2)))
		case 2:
			err = put(a, ownBlock(uint64(a), 1))
		}
		if err != nil {
			return 0, err
		}
	}
	return len(bad), f.Sync()
}

// findBlocks finds where a file has the blocks of version 2.
func findBlocks(f *os.File, blocks int) (map[int][]int64, error) {
	where := map[int][]int64{}
	buf := make([]byte, mib)
	for at := int64(0); ; {
		next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, syscall.ENXIO) {
			return where, nil
		}
		if err != nil {
			return nil, err
		}
		at = next &^ (blockSize - 1)
		k, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return nil, err
		}
		for o := 0; o+blockSize <= k; o += blockSize {
			b := buf[o : o+blockSize]
			if !bytes.HasPrefix(b, []byte(ownMagic)) {
				continue
			}
			addr := binary.LittleEndian.Uint64(b[len(ownMagic):])
			if addr < uint64(blocks) && bytes.Equal(b, ownBlock(addr, 2)) {
				where[int(addr)] = append(where[int(addr)], at+int64(o))
			}
		}
		at += int64(max(k, blockSize))
	}
}

// damagedSimulated spoils thousands of blocks under a volume of two simulated
// hosts, which is the same code on disks in memory.
func damagedSimulated(ctx context.Context, c *court) (string, error) {
	if _, err := os.Stat("internal/volume"); err != nil {
		return "", skip{"it is run in the source tree only"}
	}
	n := c.o.damages
	if c.o.quick {
		n = min(n, 1000)
	}
	out, err := toolWith(ctx, ".", "", "env", fmt.Sprint("VOLUME_DAMAGES=", n), "go", "test", "-count=1", "-v", "-run", "TestEveryDamaged|TestTwoDamaged|TestADiskDamaged", "./internal/volume")
	if err != nil {
		return "", err
	}
	var said []string
	for line := range strings.Lines(out) {
		if _, text, ok := strings.Cut(line, "damage_test.go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			said = append(said, strings.TrimSpace(text))
		}
	}
	return strings.Join(said, "; "), nil
}
