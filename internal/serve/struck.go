package serve

import (
	"crypto/tls"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
)

// Times of asking whether this host is still a member.
const (
	struckEvery = 5 * time.Second // while the control plane cannot be reached
	struckDial  = 3 * time.Second
)

// askStruck finds out, while the control plane cannot be reached, whether that
// is because this host was removed: then the ports of the others' members of
// the control plane are shut to this one. Others that were removed too know no
// better and may still be open. It ends with the member.
func (h *Host) askStruck(m *member) {
	for {
		select {
		case <-m.done:
			return
		case <-time.After(struckEvery):
		}
		if m.ms.Load().External {
			h.askStruckOut(m)
			continue
		}
		if m.node.Lease().Valid() {
			m.struck.Store(false)
			continue
		}
		shut, open, over := h.askAll(m)
		if over {
			return
		}
		if was := m.struck.Swap(shut > 0 && shut >= open); !was && m.struck.Load() {
			h.log.Error("this host is no member of the cluster any more", "refused_by", shut)
		}
	}
}

// askAll asks all of the others' members of the control plane at once, and counts
// those that are shut and those that are open. It does not wait for them when the
// member ends.
func (h *Host) askAll(m *member) (shut, open int, over bool) {
	type answer struct{ shut, open bool }
	urls := m.endpoints()
	answers := make(chan answer, len(urls))
	asked := 0
	for _, u := range urls {
		p, err := url.Parse(u)
		if err != nil || u == h.clientURL() {
			continue
		}
		asked++
		go func() {
			shut := refuses(p.Host, auth.ClientTLS(m.creds, nil))
			answers <- answer{shut, !shut && reaches(p.Host)}
		}()
	}
	for range asked {
		select {
		case <-m.done:
			return shut, open, true
		case a := <-answers:
			switch {
			case a.shut:
				shut++
			case a.open:
				open++
			}
		}
	}
	return shut, open, false
}

// refuses reports whether a member of the control plane, which proves that it is
// one, refuses our certificate.
func refuses(addr string, conf *tls.Config) bool {
	conf.NextProtos = []string{"h2"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: struckDial}, "tcp", addr, conf)
	if err != nil {
		return isAlert(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(struckDial))
	_, err = c.Read(make([]byte, 1)) // TLS 1.3 tells a client only now
	return err != nil && isAlert(err)
}

// isAlert reports whether an error is the other side's word about our
// certificate.
func isAlert(err error) bool {
	return strings.Contains(err.Error(), "remote error: tls: bad certificate")
}

func reaches(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, struckDial)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// errStruck says that this host was removed, or nil.
func (h *Host) errStruck(m *member) error {
	if !m.struck.Load() {
		return nil
	}
	return holdfast.Errorf(holdfast.Denied, "host %s was removed from cluster %s: the members do not let it in any more, and it serves and writes nothing. What is on its disks stays as it is. To use it again, stop it, give it an empty data_dir and wiped disks, and join with a new code", h.cfg.Name, m.ms.Load().Name)
}
