package qemu

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Bounds of waiting. They end what hangs; nothing is decided by them.
const (
	startTimeout   = 30 * time.Second
	commandTimeout = 10 * time.Second
	killTimeout    = 30 * time.Second
	startPoll      = 5 * time.Millisecond
)

// Start implements hypervisor.Hypervisor. Kind Busy: a machine of this VM runs
// already.
func (h *Hypervisor) Start(s hypervisor.Spec) (hypervisor.Machine, error) { return h.startFrom(s, nil) }

// startFrom starts a machine, with the memory that it is to have unless that is
// nil.
func (h *Hypervisor) startFrom(s hypervisor.Spec, memory io.Reader) (hypervisor.Machine, error) {
	if err := checkSpec(s); err != nil {
		return nil, err
	}
	if err := h.claim(s.VM); err != nil {
		return nil, err
	}
	defer h.unclaim(s.VM)
	d := h.dir(s.VM)
	lock, err := d.lock()
	if err != nil {
		return nil, err
	}
	// Ours must go as soon as QEMU has inherited it.
	m, err := h.launch(s, d, lock, memory)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (h *Hypervisor) claim(vm holdfast.VMID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return holdfast.Errorf(holdfast.Closed, "the hypervisor was shut down")
	case h.starting[vm] || h.machines[vm] != nil:
		return holdfast.Errorf(holdfast.Busy, "VM %s already has a machine on this host", vm)
	}
	h.starting[vm] = true
	return nil
}

func (h *Hypervisor) unclaim(vm holdfast.VMID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.starting, vm)
}

func (h *Hypervisor) launch(s hypervisor.Spec, d runDir, lock *os.File, memory io.Reader) (*Machine, error) {
	defer lock.Close()
	if err := d.create(); err != nil {
		return nil, err
	}
	accel, _ := h.Accelerator()
	box := h.confinement()
	rec := record{Spec: s, Kind: h.Kind(), Accelerator: accel, Sandbox: h.Sandbox(), StartedUnix: time.Now().Unix()}
	if err := h.prepare(s, d, box, accel, memory != nil); err != nil {
		return nil, err
	}
	if err := d.writeRecord(rec); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(d.logPath(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "open the machine's log: %w", err)
	}
	defer log.Close()
	cmd := h.helper(box, d)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock}
	leave, err := h.joinGroup(cmd, s.VM)
	if err != nil {
		return nil, err
	}
	err = cmd.Start()
	leave()
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "start QEMU: %w", err)
	}
	if rec.QEMU, err = identify(cmd.Process.Pid); err != nil {
		cmd.Wait()
		return nil, failed(d, err)
	}
	p, err := rec.QEMU.open()
	if err != nil {
		cmd.Wait()
		return nil, failed(d, err)
	}
	p.child = cmd.Process
	m, err := h.bringUp(d, rec, p, memory)
	if err != nil {
		p.signal(unix.SIGKILL)
		p.wait(killTimeout)
		err = failed(d, err)
		p.close()
		return nil, err
	}
	return m, nil
}

// bringUp writes down the process, waits for the monitor, starts the network
// and lets the guest go, or gives it its memory.
func (h *Hypervisor) bringUp(d runDir, rec record, p *handle, memory io.Reader) (*Machine, error) {
	if err := d.writeRecord(rec); err != nil {
		return nil, err
	}
	conn, err := connect(d.monitor(), p)
	if err != nil {
		return nil, err
	}
	var companion *handle
	if rec.Spec.NIC != nil {
		if companion, err = h.startNet(d, rec.Spec); err == nil {
			rec.Net = companion.process
			err = d.writeRecord(rec)
		}
		if err != nil {
			conn.Close()
			endNet(companion)
			return nil, err
		}
	}
	m := newMachine(h, d, rec, p)
	m.memory = memory
	err = m.hold(conn, true)
	m.memory = nil
	if err != nil {
		endNet(companion)
		return nil, err
	}
	m.begin(companion)
	return m, nil
}

// failed adds what QEMU said last to an error.
func failed(d runDir, err error) error {
	b, _ := tail(d.logPath(), 2000)
	said := strings.TrimSpace(string(b))
	if said == "" {
		return err
	}
	return holdfast.Errorf(holdfast.KindOf(err), "%w; QEMU said: %s", err, said)
}

// prepare writes the helper's instructions and copies the machine's inputs.
func (h *Hypervisor) prepare(s hypervisor.Spec, d runDir, box sandbox, accel string, waits bool) error {
	uid := -1
	if box.uid {
		uid = h.uid(s.VM)
		for _, path := range []string{d.path("sock"), d.path("files"), d.serialIn(), d.serialOut()} {
			if err := os.Chown(path, uid, uid); err != nil {
				return holdfast.Errorf(holdfast.IO, "give the machine its files: %w", err)
			}
		}
	}
	l := layout{monitor: d.monitor(), serial: d.serial(), screen: d.screen(), net: d.netSocket(), waits: waits}
	for _, in := range []struct {
		src, name string
		dst       *string
	}{{s.Kernel, "kernel", &l.kernel}, {s.Initrd, "initrd", &l.initrd}, {s.Seed, "seed", &l.seed}} {
		if in.src == "" {
			continue
		}
		*in.dst = d.path("files", in.name)
		if err := copyFile(*in.dst, in.src, uid); err != nil {
			return err
		}
	}
	c := h.jailFor(box, d, uid)
	if s.Vars != nil {
		var err error
		if l.firmware, err = h.firmware(firmwareCode); err != nil {
			return err
		}
	}
	if box.root {
		if l.firmware != "" {
			c.Binds = append(c.Binds, bind{Path: l.firmware})
		}
		shown := make(map[string]bool)
		for _, disk := range s.Written() {
			if dir := filepath.Dir(disk.Socket); !shown[dir] {
				shown[dir] = true
				c.Binds = append(c.Binds, bind{Path: dir})
			}
		}
		if accel == "kvm" {
			c.Binds = append(c.Binds, bind{Path: kvmDevice, Device: true, Own: true})
		}
	}
	c.Argv = append([]string{h.cfg.Binary}, argv(s, accel, l)...)
	return writeJSON(d.jailPath(), c)
}

// joinGroup puts the command into a control group of its own, if there is a
// place for one, with half the share of the processor that others have.
func (h *Hypervisor) joinGroup(cmd *exec.Cmd, vm holdfast.VMID) (leave func(), err error) {
	if h.cfg.Cgroup == "" {
		return func() {}, nil
	}
	dir := filepath.Join(h.cfg.Cgroup, vm.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "make the machine's control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cpu.weight"), []byte("50"), 0o644); err != nil {
		h.cfg.Log.Warn("the machine's share of the processor is not limited", "vm", vm.String(), "error", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "open the machine's control group: %w", err)
	}
	cmd.SysProcAttr.UseCgroupFD = true
	cmd.SysProcAttr.CgroupFD = int(f.Fd())
	return func() { f.Close() }, nil
}

// connect connects to a socket that QEMU is about to listen on, until the
// process has ended or startTimeout has passed.
func connect(path string, p *handle) (net.Conn, error) {
	deadline := time.Now().Add(startTimeout)
	for {
		conn, err := dial(path)
		if err == nil {
			return conn, nil
		}
		if p.wait(startPoll) {
			return nil, holdfast.Errorf(holdfast.Unavailable, "QEMU ended while it was starting")
		}
		if time.Now().After(deadline) {
			return nil, holdfast.Errorf(holdfast.Unavailable, "QEMU was not ready within %v: %w", startTimeout, err)
		}
	}
}

// endUnrecorded ends processes that hold a machine's lock although no record
// names them: the agent that started them died before it let the guest go.
func endUnrecorded(d runDir) {
	for _, p := range holders(d.lockPath()) {
		if hd, err := p.open(); err == nil {
			hd.signal(unix.SIGKILL)
			hd.wait(killTimeout)
			hd.close()
		}
	}
}

// hold connects m to a QEMU that runs, over its monitor and its serial port. A
// guest that has not run yet is let go, or given its memory, if launching, and is
// an error of kind NotFound otherwise. conn is the monitor's and is closed on
// failure.
func (m *Machine) hold(conn net.Conn, launching bool) error {
	mon, err := newMonitor(conn, commandTimeout, m.onEvent)
	if err != nil {
		return err
	}
	status, err := runState(mon)
	if err != nil {
		mon.close()
		return err
	}
	serial, err := m.dir.openSerial()
	if err != nil {
		mon.close()
		return holdfast.Errorf(holdfast.Unavailable, "open the machine's serial port: %w", err)
	}
	if status == "prelaunch" || status == "inmigrate" {
		if err = holdfast.Errorf(holdfast.NotFound, "the guest never ran"); launching {
			status, err = m.first(mon)
		}
		if err != nil {
			serial.Close()
			mon.close()
			return err
		}
	}
	if !launching {
		if err := m.tidyDisks(mon); err != nil {
			serial.Close()
			mon.close()
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.monitor, m.serial = mon, serial
	m.state = stateOf(status)
	if status == "running" || status == "io-error" {
		m.asked = false
	}
	if status == "io-error" {
		m.retryLater()
	}
	return nil
}

// runState is what QEMU says that it does (qapi/run-state.json).
func runState(mon *monitor) (string, error) {
	var st struct {
		Status string `json:"status"`
	}
	err := mon.execute("query-status", nil, &st, commandTimeout)
	return st.Status, err
}

// first has a machine that has not run yet do so, or wait with the memory that it
// was given.
func (m *Machine) first(mon *monitor) (status string, err error) {
	m.loadFirst(mon)
	if m.memory != nil {
		return "paused", m.remember(mon, m.memory)
	}
	if m.rec.Spec.Vars != nil {
		if err := openIDE(mon); err != nil {
			return "", err
		}
	}
	return "running", mon.execute("cont", nil, nil, commandTimeout)
}

// tail returns the last n bytes of a file.
func tail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(n, fi.Size()))
	read, err := f.ReadAt(b, fi.Size()-int64(len(b)))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:read], err
}
