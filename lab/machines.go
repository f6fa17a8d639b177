package lab

import (
	"fmt"
	"os"
	"strings"
)

// Machine is the process of a VM on a host of a lab, whatever the cluster's
// records say of it.
type Machine struct {
	Host, VM string // names
	PID      int
	start    string // with the PID, an identity
}

// Machines finds the machines that run on some hosts, stopped and paused ones
// included.
func Machines(hosts []Host) ([]Machine, error) {
	var out []Machine
	for _, h := range hosts {
		ps, err := processes([]Host{h})
		if err != nil {
			return nil, err
		}
		for _, p := range ps {
			if !strings.HasPrefix(p.name, "qemu-system") {
				continue
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			if err != nil {
				continue // it has ended
			}
			if vm := guestName(string(b)); vm != "" {
				out = append(out, Machine{h.Name, vm, p.pid, p.start})
			}
		}
	}
	return out, nil
}

// guestName finds the VM's name on a command line of QEMU. Before its jail has
// become QEMU a process has none.
func guestName(cmdline string) string {
	_, rest, _ := strings.Cut(cmdline, "\x00-name\x00guest=")
	name, _, _ := strings.Cut(rest, ",")
	return name
}

// Runs reports whether the process is still there.
func (m Machine) Runs() bool {
	now, err := readProc(m.PID)
	return err == nil && now.start == m.start && now.state != 'Z'
}
