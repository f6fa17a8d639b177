package qemu

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// saveRate is how fast QEMU may write a memory, in bytes per second: it stands
// still meanwhile, so there is nothing to be gentle for.
const saveRate = 64 << 30

// silence is how long a memory's stream may stand before it counts as broken:
// where it goes to may wait for a while, for a host that was lost maybe.
const silence = 2 * time.Minute

// Save implements hypervisor.Machine. QEMU migrates to a socket that lies where
// its jail shows it, and may connect to it there; what comes goes to w. After
// that QEMU does without its disks until it goes on.
func (m *Machine) Save(w io.Writer) error {
	m.plugging.Lock()
	defer m.plugging.Unlock()
	mon, err := m.talking()
	if err != nil {
		return err
	}
	if m.State() != hypervisor.Paused {
		return holdfast.Errorf(holdfast.Conflict, "the machine of VM %s runs; its memory is saved while it stands still", m.rec.Spec.VM)
	}
	if status, err := runState(mon); err != nil {
		return err
	} else if status == "postmigrate" {
		return holdfast.Errorf(holdfast.Conflict, "the machine of VM %s has handed over its memory and stood still since; it can again when it has gone on", m.rec.Spec.VM)
	}
	path := m.dir.memoryOut()
	os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "listen for the machine's memory: %w", err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil { // only QEMU and its agent can reach the directory
		return holdfast.Errorf(holdfast.IO, "listen for the machine's memory: %w", err)
	}
	if err := mon.execute("migrate-set-parameters", map[string]any{"max-bandwidth": uint64(saveRate)}, nil, commandTimeout); err != nil {
		return err
	}
	if err := mon.execute("migrate", map[string]any{"uri": "unix:" + path}, nil, commandTimeout); err != nil {
		return err
	}
	if err = receive(l, w); err == nil {
		return migrated(mon)
	}
	mon.execute("migrate_cancel", nil, nil, commandTimeout)
	if ended := migrated(mon); holdfast.IsKind(ended, holdfast.IO) && holdfast.IsKind(err, holdfast.Unavailable) {
		return holdfast.Errorf(holdfast.IO, "%w: %w", err, ended) // it never came, and QEMU knows why
	}
	return err
}

// receive copies what comes over the first connection. Kind Unavailable: there
// was none.
func receive(l *net.UnixListener, w io.Writer) error {
	l.SetDeadline(time.Now().Add(commandTimeout))
	conn, err := l.Accept()
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "QEMU does not hand over its memory: %w", err)
	}
	defer conn.Close()
	return pour(w, lively{conn})
}

// pour copies in large pieces.
func pour(w io.Writer, r io.Reader) error {
	buf := make([]byte, 1<<20)
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf)
	return err
}

// lively is a connection that breaks when nothing moves for too long.
type lively struct{ net.Conn }

func (c lively) Read(p []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(silence))
	return c.Conn.Read(p)
}

func (c lively) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(silence))
	return c.Conn.Write(p)
}

// migrated waits until QEMU has done with a memory, whose stream has ended, and
// says how that went (qapi/migration.json, MigrationStatus).
func migrated(mon *monitor) error {
	for limit := time.Now().Add(commandTimeout); ; time.Sleep(startPoll) {
		var is struct {
			Status string `json:"status"`
			Why    string `json:"error-desc"`
		}
		if err := mon.execute("query-migrate", nil, &is, commandTimeout); err != nil {
			return err
		}
		switch is.Status {
		case "completed":
			return nil
		case "failed":
			return holdfast.Errorf(holdfast.IO, "QEMU could not hand over its memory: %s", is.Why)
		case "cancelled":
			return holdfast.Errorf(holdfast.Conflict, "QEMU was told not to hand over its memory")
		}
		if time.Now().After(limit) {
			return holdfast.Errorf(holdfast.Unavailable, "QEMU has not done with its memory after %v: %s", commandTimeout, is.Status)
		}
	}
}

// Restore implements hypervisor.Hypervisor.
func (h *Hypervisor) Restore(s hypervisor.Spec, memory io.Reader) (hypervisor.Machine, error) {
	return h.startFrom(s, memory)
}

// remember gives a QEMU that waits for it its memory, and waits until it has
// taken it.
func (m *Machine) remember(mon *monitor, memory io.Reader) error {
	path := m.dir.memoryIn()
	if err := mon.execute("migrate-incoming", map[string]any{"uri": "unix:" + path}, nil, commandTimeout); err != nil {
		return err
	}
	conn, err := dial(path)
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "hand the machine its memory: %w", err)
	}
	err = pour(lively{conn}, memory)
	if cut := conn.Close(); err == nil && cut != nil {
		err = holdfast.Errorf(holdfast.IO, "hand the machine its memory: %w", cut)
	}
	if err != nil {
		return err
	}
	if err := migrated(mon); err != nil {
		return err
	}
	for limit := time.Now().Add(commandTimeout); ; time.Sleep(startPoll) {
		status, err := runState(mon)
		if err != nil || status == "paused" {
			return err
		}
		if time.Now().After(limit) {
			return holdfast.Errorf(holdfast.Corrupt, "the machine has its memory and is not ready to go on: %s", status)
		}
	}
}

// edition counts up with what argv gives a machine: a memory is of the devices too.
const edition = "devices 2"

// Kind implements hypervisor.Hypervisor: QEMU's version, which says what its type
// of machine is made of, and what executes the guest. QEMU may be another one at
// any time: it is asked anew when its file has changed.
func (h *Hypervisor) Kind() string {
	fi, err := os.Stat(h.cfg.Binary)
	if err != nil {
		return ""
	}
	h.kindMu.Lock()
	defer h.kindMu.Unlock()
	if h.kindOf != nil && os.SameFile(h.kindOf, fi) && h.kindOf.ModTime().Equal(fi.ModTime()) {
		return h.kind
	}
	out, err := exec.Command(h.cfg.Binary, "--version").Output()
	version, ok := strings.CutPrefix(firstLine(string(out)), "QEMU emulator version ")
	if err != nil || !ok {
		return ""
	}
	accel, _ := h.Accelerator()
	cpu := "Nehalem"
	if accel == "kvm" {
		cpu = processor()
	}
	h.kind, h.kindOf = "QEMU "+strings.TrimSpace(version)+", "+edition+", "+accel+", "+cpu, fi
	return h.kind
}

// Kind implements hypervisor.Machine.
func (m *Machine) Kind() string { return m.rec.Kind }

// processor names the host's processor.
func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if name, is, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(is)
			}
		}
	}
	return "unknown processor"
}
