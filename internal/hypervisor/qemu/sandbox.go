package qemu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// sandbox is what the kernel and our rights allow around QEMU.
type sandbox struct {
	root  bool // a root and namespaces of its own
	user  bool // through a user namespace, because the agent is not root
	uid   bool // a user of its own
	why   string
	binds []bind
	links map[string]string
}

const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

// Sandbox says how machines are confined: "full", or "reduced (why)". In
// either case QEMU's system call filter is closed and no new rights can be
// had.
func (h *Hypervisor) Sandbox() string {
	s := h.confinement()
	if s.why == "" {
		return "full"
	}
	return "reduced (" + s.why + ")"
}

// confinement tries, once, which sandbox works here, by starting QEMU in it
// just to print its version.
func (h *Hypervisor) confinement() sandbox {
	h.sandboxOnce.Do(func() { h.sandbox = h.findConfinement() })
	return h.sandbox
}

func (h *Hypervisor) findConfinement() sandbox {
	binds, links, err := jailView(h.cfg.Binary)
	for _, dir := range []string{"/usr/share/qemu", "/usr/share/seabios"} { // firmware
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			binds = append(binds, bind{Path: real})
		}
	}
	if err != nil {
		return sandbox{why: err.Error()}
	}
	best := sandbox{root: true, uid: true, binds: binds, links: links}
	if os.Geteuid() != 0 {
		best.uid, best.user = false, true
		best.why = "the agent is not root: no user of its own per machine"
	}
	if why := h.try(best); why != "" {
		return sandbox{why: why}
	}
	return best
}

// try starts QEMU in the sandbox and returns why it did not work, or "".
func (h *Hypervisor) try(s sandbox) string {
	dir, err := os.MkdirTemp(h.cfg.Dir, "try-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	d := runDir(dir)
	if err := d.create(); err != nil {
		return err.Error()
	}
	c := h.jailFor(s, d, h.cfg.UIDBase+uidRange-1)
	c.Argv = []string{h.cfg.Binary, "--version"}
	if err := writeJSON(d.jailPath(), c); err != nil {
		return err.Error()
	}
	cmd := h.helper(s, d)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return strings.TrimSpace(firstLine(out.String()) + " " + err.Error())
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// jailFor fills in what the sandbox means for one machine's helper.
func (h *Hypervisor) jailFor(s sandbox, d runDir, uid int) jailConfig {
	c := jailConfig{UID: -1, Nice: h.cfg.Nice, Env: []string{"PATH=/usr/bin:/bin"}}
	if s.root {
		c.Root = d.path("root")
		c.Binds = append(c.Binds, s.binds...)
		c.Links = s.links
		c.DropCaps = s.user
		c.Binds = append(c.Binds, bind{Path: d.path("sock"), Writable: true},
			bind{Path: d.serialIn(), Writable: true}, bind{Path: d.serialOut(), Writable: true}, bind{Path: d.path("files")}, bind{Path: d.path("disks")})
	}
	if s.uid {
		c.UID, c.GID = uid, uid
	}
	return c
}

// helper is the command that becomes QEMU: in a session of its own, with the
// namespaces of the sandbox, and not ended by our end.
func (h *Hypervisor) helper(s sandbox, d runDir) *exec.Cmd {
	cmd := exec.Command(h.cfg.Self, "jail", d.jailPath())
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	attr := &syscall.SysProcAttr{Setsid: true}
	if s.root {
		attr.Cloneflags = namespaces
	}
	if s.user {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	return cmd
}

const kvmDevice = "/dev/kvm"
