package qemu

import (
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/guestnet"
)

// SetDeny replaces the networks that guests may not reach, for running
// machines too.
func (h *Hypervisor) SetDeny(deny []netip.Prefix) error {
	h.mu.Lock()
	h.deny = append([]netip.Prefix(nil), deny...)
	var all []*Machine
	for _, m := range h.machines {
		all = append(all, m)
	}
	h.mu.Unlock()
	for _, m := range all {
		if m.rec.Spec.NIC == nil {
			continue
		}
		if err := h.writeNetConfig(m.dir, m.Spec()); err != nil && m.State() != hypervisor.Off {
			return err
		}
	}
	return nil
}

func (h *Hypervisor) writeNetConfig(d runDir, s hypervisor.Spec) error {
	h.mu.Lock()
	deny := h.deny
	h.mu.Unlock()
	err := writeJSON(d.netConfig(), guestnet.Config{
		Frames: d.netSocket(), Dial: d.dialSocket(), Lock: d.lockPath(), MAC: s.NIC.MAC,
		Deny: deny, DNS: guestnet.HostResolvers(),
	})
	if err == nil && h.confinement().uid {
		err = os.Chown(d.netConfig(), h.uid(s.VM), h.uid(s.VM))
	}
	return err
}

// startNet starts a machine's network companion, confined like QEMU except
// that it keeps the host's network, for which it opens sockets.
func (h *Hypervisor) startNet(d runDir, s hypervisor.Spec) (*handle, error) {
	box := h.confinement()
	uid := h.uid(s.VM)
	if err := h.writeNetConfig(d, s); err != nil {
		return nil, err
	}
	c := h.jailFor(sandbox{root: box.root, user: box.user, uid: box.uid}, d, uid)
	if box.root {
		self, err := filepath.EvalSymlinks(h.cfg.Self)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Unavailable, "find this program: %w", err)
		}
		view, links, err := jailView(self)
		if err != nil {
			return nil, err
		}
		c.Binds = append(append(c.Binds, view...), bind{Path: d.path("net"), Writable: true}, bind{Path: d.lockPath()})
		c.Links = links
		c.Argv = []string{self}
	} else {
		c.Argv = []string{h.cfg.Self}
	}
	c.Argv = append(c.Argv, "guestnet", d.netConfig())
	c.Env = append(c.Env, "GOMAXPROCS=1", "GOGC=50")
	if box.uid {
		if err := os.Chown(d.path("net"), uid, uid); err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "give the network its directory: %w", err)
		}
	}
	config := d.path("jail-net.json")
	if err := writeJSON(config, c); err != nil {
		return nil, err
	}
	cmd := exec.Command(h.cfg.Self, "jail", config)
	cmd.Dir, cmd.Env = "/", c.Env
	cmd.SysProcAttr = h.helper(box, d).SysProcAttr
	cmd.SysProcAttr.Cloneflags &^= syscall.CLONE_NEWNET
	log, err := os.OpenFile(d.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "open the machine's log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "start the machine's network: %w", err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		cmd.Wait()
		return nil, err
	}
	hd, err := p.open()
	if err != nil {
		cmd.Wait()
		return nil, err
	}
	hd.child = cmd.Process
	return hd, nil
}

// endNet ends a network companion and waits for it.
func endNet(p *handle) {
	if p == nil {
		return
	}
	p.signal(unix.SIGKILL)
	p.wait(killTimeout)
	p.close()
}

// netPause is how long a companion that died is not started again.
const netPause = time.Second

// keepNet starts the companion again whenever it died while the machine lives.
// It owns m.net until the machine is gone or released.
func (m *Machine) keepNet() {
	defer m.h.wg.Done()
	defer close(m.netEnded)
	for {
		m.mu.Lock()
		p, over := m.net, m.released || m.state == hypervisor.Off
		m.mu.Unlock()
		if over {
			return
		}
		if p != nil {
			if !p.wait(0) {
				return // let go of
			}
			p.close()
		}
		select {
		case <-m.stopNet:
			return
		case <-time.After(netPause):
		}
		m.renewNet()
	}
}

func (m *Machine) renewNet() {
	p, err := m.h.startNet(m.dir, m.Spec())
	if err != nil {
		m.h.cfg.Log.Warn("a machine's network could not be started", "vm", m.rec.Spec.VM.String(), "error", err)
		p = nil
	}
	m.mu.Lock()
	over := m.released || m.state == hypervisor.Off
	if m.net = p; p != nil {
		m.rec.Net = p.process
	}
	m.mu.Unlock()
	if over {
		endNet(p)
		return
	}
	if p != nil {
		m.h.cfg.Log.Info("a machine's network was started again", "vm", m.rec.Spec.VM.String())
		if err := m.save(); err != nil {
			m.h.cfg.Log.Warn("a machine's network is not in its record", "vm", m.rec.Spec.VM.String(), "error", err)
		}
	}
}

// endGroup removes a machine's control group, which is empty by now.
func (h *Hypervisor) endGroup(vm holdfast.VMID) {
	if h.cfg.Cgroup != "" {
		os.Remove(filepath.Join(h.cfg.Cgroup, vm.String()))
	}
}

// Dial implements hypervisor.Machine.
func (m *Machine) Dial(guestPort int) (io.ReadWriteCloser, error) {
	if m.State() == hypervisor.Off {
		return nil, m.offError()
	}
	if m.rec.Spec.NIC == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "VM %s has no network", m.rec.Spec.VM)
	}
	return guestnet.Dial(m.dir.dialSocket(), guestPort)
}
