package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-cloud/holdfast/lab"
)

// filesystem is one of the kernel's, with its tools.
type filesystem struct {
	name  string
	mkfs  []string
	check []string
}

func ext4() filesystem {
	return filesystem{"ext4", []string{"mkfs.ext4", "-q", "-F"}, []string{"e2fsck", "-fn"}}
}

func xfs() filesystem {
	return filesystem{"xfs", []string{"mkfs.xfs", "-q", "-f"}, []string{"xfs_repair", "-n"}}
}

func fsxExt4(ctx context.Context, c *court) (string, error)      { return c.mounted(ctx, ext4(), false) }
func fsxXFS(ctx context.Context, c *court) (string, error)       { return c.mounted(ctx, xfs(), false) }
func fsxExt4Kills(ctx context.Context, c *court) (string, error) { return c.mounted(ctx, ext4(), true) }
func fsxXFSKills(ctx context.Context, c *court) (string, error)  { return c.mounted(ctx, xfs(), true) }

// mount is a file system of the kernel on a volume, by way of FUSE and a loop
// device.
type mount struct {
	v      *volume
	at     lab.Host
	fs     filesystem
	server *daemon
	file   string // what FUSE shows the volume as
	loop   string
	dir    string
	undo   []func() error
}

// mounted makes a file system on a volume, exercises files in it, trims it,
// and has its checker look at it; with kills, the rack of the writer dies in
// the midst of the exercises.
func (c *court) mounted(ctx context.Context, fs filesystem, kills bool) (said string, err error) {
	if os.Getuid() != 0 {
		return "", skip{"loop devices need root"}
	}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(dev); err != nil {
			return "", skip{"this machine has no " + dev}
		}
	}
	name := "fsx-" + fs.name
	if kills {
		name += "-kills"
	}
	v, err := c.volume(ctx, name, 400*mib, "")
	if err != nil {
		return "", err
	}
	m := &mount{v: v, fs: fs, file: c.path(name + ".img"), dir: c.path(name + ".mnt")}
	if m.at, err = v.forwarding(ctx); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.serve(ctx, kills); err != nil {
		return "", err
	}
	if _, err := tool(ctx, fs.mkfs[0], append(fs.mkfs[1:], m.loop)...); err != nil {
		return "", err
	}
	rounds, each := 6, 3000
	if c.o.quick {
		rounds, each = 1, 500
	}
	if kills {
		rounds = c.someCycles()
	}
	done, during := 0, 0
	for i := range rounds {
		n, cut, err := m.round(ctx, i, each, kills)
		if err != nil {
			return "", fmt.Errorf("round %d, at host %s: %w", i, m.at.Name, err)
		}
		if done += n; cut {
			during++
		}
	}
	said = fmt.Sprintf("%d operations on files, trimmed, %s clean %d times", done, fs.check[0], rounds)
	if kills {
		said += fmt.Sprintf(", the writer's rack killed %d times, %d in their midst", rounds, during)
	}
	if err := m.close(); err != nil {
		return "", err
	}
	return said, v.delete(ctx)
}

// serve shows the volume as a file and that as a block device. libnbd's
// nbdfuse does not connect again, QEMU's storage daemon does.
func (m *mount) serve(ctx context.Context, reconnect bool) (err error) {
	if err := os.WriteFile(m.file, nil, 0o600); err != nil {
		return err
	}
	if reconnect {
		m.server, err = startDaemon("qemu-storage-daemon", "--blockdev", "driver=nbd,node-name=n,server.type=unix,server.path="+m.v.socket(m.at)+",reconnect-delay=180,discard=unmap",
			"--export", "type=fuse,id=f,node-name=n,mountpoint="+m.file+",writable=on,growable=off")
	} else {
		m.server, err = startDaemon("nbdfuse", m.file, m.v.uri(m.at))
	}
	if err != nil {
		return err
	}
	m.undo = append(m.undo, func() error {
		if !reconnect {
			_, _ = tool(context.Background(), "fusermount3", "-u", m.file) // nbdfuse ends by that
		}
		m.server.end()
		return nil
	})
	err = until(ctx, m.file+" to be there", func() (bool, string) {
		st, err := os.Stat(m.file)
		return err == nil && st.Size() == m.v.size || m.server.ended() != nil, fmt.Sprint(err)
	})
	if err = errors.Join(err, m.server.ended()); err != nil {
		return err
	}
	out, err := tool(ctx, "losetup", "--find", "--show", m.file)
	if err != nil {
		return err
	}
	m.loop = strings.TrimSpace(out)
	m.undo = append(m.undo, func() error {
		if _, err := tool(context.Background(), "losetup", "--detach", m.loop); err != nil {
			return err
		}
		// It lets go of the file when its last user has: what serves the file cannot end before.
		return until(context.Background(), m.loop+" to let go of its file", func() (bool, string) {
			of, err := os.ReadFile("/sys/block/" + filepath.Base(m.loop) + "/loop/backing_file")
			return errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(of)) != m.file, fmt.Sprint(string(of), err)
		})
	})
	return os.MkdirAll(m.dir, 0o700)
}

// round mounts, exercises two files at once, trims, unmounts and checks.
func (m *mount) round(ctx context.Context, i, n int, kill bool) (did int, during bool, err error) {
	if _, err := tool(ctx, "mount", "-t", m.fs.name, "-o", "discard", m.loop, m.dir); err != nil {
		return 0, false, err
	}
	// Only what is mounted there may be trimmed.
	if out, err := tool(ctx, "findmnt", "-n", "-o", "SOURCE", "--mountpoint", m.dir); err != nil || strings.TrimSpace(out) != m.loop {
		return 0, false, fmt.Errorf("%s is not mounted from %s: %v %s", m.dir, m.loop, err, out)
	}
	unmount := func() error {
		_, err := tool(context.Background(), "umount", m.dir)
		return err
	}
	done := make(chan error, 2)
	seed := m.v.c.rng.Uint64()
	for j := range 2 {
		go func() {
			_, err := exercise(fmt.Sprintf("%s/file-%d-%d", m.dir, i, j), seed+uint64(j), n/2, 8*mib)
			if err == nil {
				_, err = tool(ctx, "fstrim", m.dir)
			}
			done <- err
		}()
	}
	both := make(chan error, 1)
	go func() { both <- errors.Join(<-done, <-done) }()
	if kill {
		pause(ctx, m.v.c.within(800e6))
		during, err = m.v.killWriter(ctx, m.at, both)
	} else {
		err = <-both
	}
	if i%2 == 1 {
		err = errors.Join(err, os.Remove(fmt.Sprintf("%s/file-%d-0", m.dir, i)))
	}
	if err = errors.Join(err, unmount()); err != nil {
		return 0, during, err
	}
	if out, err := tool(ctx, m.fs.check[0], append(m.fs.check[1:], m.loop)...); err != nil {
		return 0, during, fmt.Errorf("%w\n%s", err, tail(out))
	}
	return n / 2 * 2, during, m.server.ended()
}

// close undoes what serve did, once.
func (m *mount) close() (err error) {
	for len(m.undo) > 0 {
		last := m.undo[len(m.undo)-1]
		m.undo = m.undo[:len(m.undo)-1]
		err = errors.Join(err, last())
	}
	return err
}
