package baddays

import (
	"fmt"
	"net"
	"time"
)

// publishedPorts are answered at every host's address while the VM is on, and
// at none once it is gone. The probe guest does not speak TCP; that bytes get
// through is tested by TestPublishedPortsLeadToTheGuest.
func publishedPorts(s *scene, w *witness) {
	h := s.anyHost()
	s.done(h, nil, "vm", "create", "web", "--image", "probe", "--memory", "32MiB", "--publish", "8080:80/tcp")
	answers := func() (n int) {
		for _, h := range s.l.Hosts {
			if c, err := net.DialTimeout("tcp", net.JoinHostPort(h.Addr, "8080"), time.Second); err == nil {
				c.Close()
				n++
			}
		}
		return n
	}
	s.until("every host to answer for the port", func() (bool, string) {
		n := answers()
		return n == len(s.l.Hosts), fmt.Sprintf("%d do", n)
	})
	s.refused(h, nil, inConflict, "8080", "vm", "create", "other", "--image", "probe", "--publish", "8080:81/tcp")
	s.done(h, nil, "vm", "delete", "web", "--force")
	s.until("no host to answer for the port", func() (bool, string) {
		n := answers()
		return n == 0, fmt.Sprintf("%d do", n)
	})
	s.oneMachine(1)
	w.goesOn()
}
