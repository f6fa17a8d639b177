package qemu

import (
	"hash/fnv"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Config says how machines are run. Dir is required.
type Config struct {
	// Dir holds one directory per machine. It is made if missing, closed to
	// others, and must have a short path (sockets lie in it).
	Dir string
	// Binary is QEMU; empty means qemu-system-x86_64 from the PATH.
	Binary string
	// Self is the program whose subcommands `jail` and `guestnet` are used;
	// empty means this one.
	Self string
	// Accelerator is "auto" (or empty), "kvm" or "tcg".
	Accelerator string
	// Firmware is the directory of UEFI firmware; empty means /usr/share/OVMF.
	Firmware string
	// Deny lists networks that no guest may reach, besides the addresses of
	// this host: the cluster's hosts. SetDeny changes it.
	Deny []netip.Prefix
	// UIDBase starts the range of 2^24 users that machines get when the agent
	// is root; 0 means 1879048192, above what systemd gives to containers.
	UIDBase int
	// Cgroup is a directory of a cgroup v2 hierarchy under which each machine
	// gets a group of its own; empty: none.
	Cgroup string
	// Nice is added to the priority of every machine; 0 means 5.
	Nice int
	// Log may be nil.
	Log *slog.Logger
}

const (
	defaultUIDBase = 0x70000000
	uidRange       = 1 << 24
	defaultNice    = 5
)

// Hypervisor implements hypervisor.Hypervisor.
type Hypervisor struct {
	cfg Config

	accelOnce  sync.Once
	accel, why string

	kindMu sync.Mutex
	kind   string
	kindOf os.FileInfo // of the QEMU that it was asked of

	sandboxOnce sync.Once
	sandbox     sandbox

	mu       sync.Mutex
	machines map[holdfast.VMID]*Machine
	starting map[holdfast.VMID]bool
	notify   func(holdfast.VMID, hypervisor.State)
	deny     []netip.Prefix
	closed   bool
	wg       sync.WaitGroup // goroutines of the machines
}

var _ hypervisor.Hypervisor = (*Hypervisor)(nil)

// New prepares the directory and finds QEMU. It starts nothing.
func New(cfg Config) (*Hypervisor, error) {
	var err error
	if cfg.Binary == "" {
		cfg.Binary = "qemu-system-x86_64"
	}
	if cfg.Binary, err = exec.LookPath(cfg.Binary); err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host cannot run machines: %w; install QEMU (Debian and Ubuntu: qemu-system-x86)", err)
	}
	if cfg.Binary, err = filepath.EvalSymlinks(cfg.Binary); err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "find QEMU: %w", err)
	}
	if cfg.Self == "" {
		if cfg.Self, err = os.Executable(); err != nil {
			return nil, holdfast.Errorf(holdfast.Unavailable, "find this program: %w", err)
		}
	}
	switch cfg.Accelerator {
	case "":
		cfg.Accelerator = "auto"
	case "auto", "kvm", "tcg":
	default:
		return nil, holdfast.Errorf(holdfast.Invalid, "accelerator %q: use auto, kvm or tcg", cfg.Accelerator)
	}
	if cfg.Firmware == "" {
		cfg.Firmware = firmwareDir
	}
	if cfg.UIDBase == 0 {
		cfg.UIDBase = defaultUIDBase
	}
	if cfg.Nice == 0 {
		cfg.Nice = defaultNice
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "the machines' directory: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "make the machines' directory: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "close the machines' directory to others: %w", err)
	}
	return &Hypervisor{cfg: cfg, deny: cfg.Deny, machines: make(map[holdfast.VMID]*Machine), starting: make(map[holdfast.VMID]bool)}, nil
}

// Notify implements hypervisor.Hypervisor. f is called from a goroutine of the
// machine and must not wait for that machine.
func (h *Hypervisor) Notify(f func(holdfast.VMID, hypervisor.State)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notify = f
}

func (h *Hypervisor) tell(vm holdfast.VMID, s hypervisor.State) {
	h.mu.Lock()
	f := h.notify
	h.mu.Unlock()
	if f != nil {
		f(vm, s)
	}
}

// Close lets go of all machines without stopping any; they go on and can be
// adopted. It waits for what it started itself.
func (h *Hypervisor) Close() {
	h.mu.Lock()
	h.closed = true
	var all []*Machine
	for _, m := range h.machines {
		all = append(all, m)
	}
	h.mu.Unlock()
	for _, m := range all {
		m.release()
	}
	h.wg.Wait()
}

func (h *Hypervisor) dir(vm holdfast.VMID) runDir {
	return runDir(filepath.Join(h.cfg.Dir, vm.String()))
}

// uid is the user of a VM's machine on this host: the same each time, and
// another for another agent's directory.
func (h *Hypervisor) uid(vm holdfast.VMID) int {
	f := fnv.New32a()
	f.Write(vm.UUID[:])
	f.Write([]byte(h.cfg.Dir))
	return h.cfg.UIDBase + int(f.Sum32()%uidRange)
}

// forget takes a machine that is gone out of the list.
func (h *Hypervisor) forget(m *Machine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.machines[m.rec.Spec.VM] == m {
		delete(h.machines, m.rec.Spec.VM)
	}
}

// Adopt implements hypervisor.Hypervisor. It also removes what dead machines
// left behind. A machine that an agent died over before it ever ran is ended:
// no guest code has been executed in it.
func (h *Hypervisor) Adopt() ([]hypervisor.Machine, error) {
	entries, err := os.ReadDir(h.cfg.Dir)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "look for running machines: %w", err)
	}
	var found []hypervisor.Machine
	for _, e := range entries {
		id, err := holdfast.ParseUUID(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		m, err := h.adopt(holdfast.VMID{UUID: id})
		if err != nil {
			h.cfg.Log.Warn("a machine could not be adopted", "vm", e.Name(), "error", err)
			continue
		}
		if m != nil {
			found = append(found, m)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Spec().VM.String() < found[j].Spec().VM.String() })
	return found, nil
}

func (h *Hypervisor) adopt(vm holdfast.VMID) (*Machine, error) {
	h.mu.Lock()
	m, busy := h.machines[vm], h.starting[vm]
	h.mu.Unlock()
	if m != nil || busy {
		return m, nil
	}
	d := h.dir(vm)
	if !d.alive() {
		return nil, removeDead(d)
	}
	rec, err := d.readRecord()
	if err != nil {
		return nil, err
	}
	if rec.Spec.VM != vm {
		return nil, holdfast.Errorf(holdfast.Corrupt, "%s holds the record of VM %s", d, rec.Spec.VM)
	}
	p, err := rec.QEMU.open()
	if err != nil {
		endUnrecorded(d)
		return nil, removeDead(d)
	}
	m = newMachine(h, d, rec, p)
	if !p.stopped() { // else it is held as it is: paused by a watchdog
		conn, err := dial(d.monitor())
		if err != nil {
			p.close()
			return nil, holdfast.Errorf(holdfast.Unavailable, "connect to the machine's monitor: %w", err)
		}
		if err := m.hold(conn, false); holdfast.IsKind(err, holdfast.NotFound) {
			p.signal(unix.SIGKILL)
			p.wait(killTimeout)
			p.close()
			return nil, removeDead(d)
		} else if err != nil {
			p.close()
			return nil, err
		}
	}
	companion, err := rec.Net.open()
	if err != nil {
		companion = nil
	}
	m.begin(companion)
	return m, nil
}

// removeDead removes the directory of a machine that is gone.
func removeDead(d runDir) error {
	if err := os.RemoveAll(string(d)); err != nil {
		return holdfast.Errorf(holdfast.IO, "remove what a dead machine left: %w", err)
	}
	return nil
}

// Signal sends sig to the process if it is still the same one; one that is
// gone is no error.
func (p Process) Signal(sig unix.Signal) error {
	hd, err := p.open()
	if holdfast.IsKind(err, holdfast.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer hd.close()
	return hd.signal(sig)
}

// Process is one process of a machine, for those who must end machines
// without their agent.
type Process struct {
	VM   holdfast.VMID
	What string // "qemu" or "guestnet"
	process
}

// Processes lists the living processes of all machines under dir, without
// talking to any of them.
func Processes(dir string) ([]Process, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "list machines: %w", err)
	}
	var list []Process
	for _, e := range entries {
		id, err := holdfast.ParseUUID(e.Name())
		if err != nil {
			continue
		}
		rec, err := runDir(filepath.Join(dir, e.Name())).readRecord()
		if err != nil {
			continue
		}
		for _, p := range []Process{{What: "qemu", process: rec.QEMU}, {What: "guestnet", process: rec.Net}} {
			p.VM = holdfast.VMID{UUID: id}
			if hd, err := p.open(); err == nil {
				hd.close()
				list = append(list, p)
			}
		}
	}
	return list, nil
}
