package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bind is a path that is visible in the jail under its own name.
type bind struct {
	Path     string `json:"path"`
	Writable bool   `json:"writable,omitempty"`
	Device   bool   `json:"device,omitempty"`
	Own      bool   `json:"own,omitempty"` // a device node of the machine's own, for the user it becomes
}

// jailConfig tells the helper process what to do before it becomes QEMU.
type jailConfig struct {
	Root     string            `json:"root,omitempty"` // an empty directory; "": no new root (reduced)
	Binds    []bind            `json:"binds,omitempty"`
	Links    map[string]string `json:"links,omitempty"` // symbolic links at the top, name to target
	UID      int               `json:"uid"`             // user to become; -1: stay
	GID      int               `json:"gid"`             // group to become, with UID
	DropCaps bool              `json:"drop_caps"`       // a user namespace's root gives up its rights
	Nice     int               `json:"nice"`
	Argv     []string          `json:"argv"` // the absolute path of the program first
	Env      []string          `json:"env,omitempty"`
}

// JailMain is the hidden subcommand `jail FILE`: it runs as the first process
// of new namespaces that its parent made, builds an empty root that holds only
// what FILE lists, gives up every right and becomes QEMU. It returns only if
// it failed; the exit code is for the caller's os.Exit.
func JailMain(args []string) int {
	runtime.LockOSThread() // rights belong to threads, and this one will exec
	fmt.Fprintln(os.Stderr, "jail:", jail(args))
	return 1
}

func jail(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("needs the path of its configuration")
	}
	b, err := readBounded(args[0])
	if err != nil {
		return err
	}
	var c jailConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if len(c.Argv) == 0 {
		return fmt.Errorf("%s: no program to run", args[0])
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, c.Nice); err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err) // they would hold the guest's memory
	}
	unix.Umask(0o022)
	if c.Root != "" {
		if err := c.enterRoot(); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte("machine")); err != nil {
			return fmt.Errorf("set the host name: %w", err)
		}
	}
	if err := c.dropRights(); err != nil {
		return err
	}
	unix.Umask(0o077)
	return fmt.Errorf("run %s: %w", c.Argv[0], syscall.Exec(c.Argv[0], c.Argv, c.Env))
}

// enterRoot builds the new root on a file system in memory and leaves the old
// one for good.
func (c *jailConfig) enterRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach mounts from the host: %w", err)
	}
	if err := unix.Mount("machine", c.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=256k,mode=755"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	for _, b := range c.Binds {
		var err error
		if b.Own && c.UID >= 0 {
			err = c.makeNode(b.Path)
		} else {
			err = bindInto(c.Root, b)
		}
		if err != nil {
			return err
		}
	}
	for name, target := range c.Links {
		if err := os.Symlink(target, filepath.Join(c.Root, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := os.Chdir(c.Root); err != nil {
		return err
	}
	// The old root goes on top of the new one and is taken off at once
	// (pivot_root(2), the notes on "." and ".").
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("make the new root read-only: %w", err)
	}
	return nil
}

// makeNode copies a device node for the machine's user, who may have no right
// to the host's. It stands alone on a file system that allows devices.
func (c *jailConfig) makeNode(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("show %s in the jail: %w", path, err)
	}
	dir := filepath.Join(c.Root, "node")
	node := filepath.Join(dir, filepath.Base(path))
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = unix.Mount("nodes", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=4k,mode=755")
	}
	if err == nil {
		err = unix.Mknod(node, unix.S_IFCHR|0o600, int(st.Rdev))
	}
	if err == nil {
		err = os.Chown(node, c.UID, c.GID)
	}
	at := filepath.Join(c.Root, path)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(at), 0o755)
	}
	if err == nil {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err == nil {
		err = unix.Mount(node, at, "", unix.MS_BIND, "")
	}
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, "")
	}
	if err != nil {
		return fmt.Errorf("make %s in the jail: %w", path, err)
	}
	return nil
}

func bindInto(root string, b bind) error {
	at := filepath.Join(root, b.Path)
	fi, err := os.Stat(b.Path)
	if err != nil {
		return fmt.Errorf("show %s in the jail: %w", b.Path, err)
	}
	if fi.IsDir() {
		err = os.MkdirAll(at, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("show %s in the jail: %w", b.Path, err)
	}
	if err := unix.Mount(b.Path, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s in the jail: %w", b.Path, err)
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID)
	if !b.Writable && !b.Device {
		flags |= unix.MS_RDONLY
	}
	if !b.Device {
		flags |= unix.MS_NODEV
	}
	if b.Writable {
		flags |= unix.MS_NOEXEC
	}
	// In a user namespace the flags that the host set may not be taken away.
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err == nil {
		flags |= uintptr(st.Flags) & (unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME)
		if st.Flags&unix.ST_RELATIME != 0 {
			flags |= unix.MS_RELATIME
		}
	}
	if err := unix.Mount("", at, "", flags, ""); err != nil {
		return fmt.Errorf("restrict %s in the jail: %w", b.Path, err)
	}
	return nil
}

// dropRights gives up user, groups, capabilities and the hope of getting any
// back.
func (c *jailConfig) dropRights() error {
	if c.UID >= 0 || c.DropCaps {
		for last := 0; last < 64; last++ {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(last), 0, 0, 0); err != nil {
				break // past the last capability that the kernel knows
			}
		}
	}
	if c.UID >= 0 {
		if err := syscall.Setgroups(nil); err != nil {
			return fmt.Errorf("leave all groups: %w", err)
		}
		if err := syscall.Setgid(c.GID); err != nil {
			return fmt.Errorf("change the group: %w", err)
		}
		if err := syscall.Setuid(c.UID); err != nil {
			return fmt.Errorf("change the user: %w", err)
		}
	}
	if c.DropCaps {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new rights: %w", err)
	}
	return nil
}

// jailView lists what a program needs to see: its libraries' directories and
// two devices; and the host's top-level symbolic links.
func jailView(binary string) ([]bind, map[string]string, error) {
	dirs, err := libraryDirs(binary)
	if err != nil {
		return nil, nil, err
	}
	binds := []bind{{Path: binary}}
	for _, dir := range dirs {
		binds = append(binds, bind{Path: dir})
	}
	for _, dev := range []string{"/dev/null", "/dev/urandom"} {
		binds = append(binds, bind{Path: dev, Device: true})
	}
	links := make(map[string]string)
	for _, name := range []string{"/lib", "/lib64", "/lib32"} {
		if target, err := os.Readlink(name); err == nil && !strings.HasPrefix(target, "/") {
			links[name[1:]] = target
		}
	}
	return binds, links, nil
}
