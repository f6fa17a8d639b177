package serve

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/mdns"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

// pagesFile is DATA/pages.json: what this host shows to who opens the pages by a name,
// so that it does so from its start, the control plane there or not.
const pagesFile = "pages.json"

const (
	pagesCondition = "pages"
	siteCondition  = "pages-certificate"
	linkRetry      = 30 * time.Second // until names are answered for again
)

type shownPages struct {
	PEM  string    `json:"pem"`
	Site *web.Site `json:"site,omitempty"`
}

// loadPage reads what was shown last; nothing if that cannot be read, as it is made anew.
func (h *Host) loadPage(m *member) {
	var p shownPages
	b, err := os.ReadFile(h.dir.file(pagesFile))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	var page *web.Page
	if err == nil {
		page, err = web.ReadPage([]byte(p.PEM))
	}
	if err == nil && p.Site != nil {
		err = p.Site.Check()
	}
	if err == nil {
		m.page.Store(page.With(p.Site))
	} else if !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("the certificate of the pages cannot be read, and is made anew", "error", err)
	}
}

// followPages keeps what this host shows to who opens the pages as the cluster has it,
// and answers for their names on the link.
func (h *Host) followPages(m *member) {
	over := func() bool {
		select {
		case <-m.done:
			return true
		default:
			return false
		}
	}
	var said string
	m.web.Follow(over, func(r web.Record, site *web.Site, err error) {
		text := ""
		if err == nil {
			err = h.showPage(m, r, site)
		}
		if err != nil {
			text = "host " + h.cfg.Name + " has no certificate for the pages' names: " + err.Error()
		}
		if text != said {
			said = text
			level := ""
			if text != "" {
				level = "warning"
			}
			m.node.Condition(pagesCondition, level, text)
		}
	})
}

func (h *Host) showPage(m *member, r web.Record, site *web.Site) error {
	now := time.Now()
	p := m.page.Load()
	serves := p != nil && p.Serves(r, now)
	if serves && p.Site().Equal(site) {
		return nil
	}
	if !serves {
		var err error
		if p, err = r.Page(now, rand.Reader); err != nil {
			return err
		}
	}
	p = p.With(site)
	b, err := p.Bytes()
	if err == nil {
		err = h.dir.write(pagesFile, shownPages{PEM: string(b), Site: site})
	}
	m.page.Store(p)
	names := p.Names()
	if site != nil {
		names = append(slices.Clone(names), site.Names()...)
	}
	h.log.Info("the pages have these names", "names", strings.Join(names, " "))
	return err
}

// watchSite tells, by the host that makes the plans, once for all, that the site's own
// certificate ends soon, or has ended. It ends with the member.
func (h *Host) watchSite(m *member) {
	for {
		text := ""
		if p := m.page.Load(); p != nil && p.Site() != nil && m.node.Cluster.State().Leader == h.dir.id.Host {
			text = siteText(p.Site(), time.Now())
		}
		m.node.Condition(siteCondition, "warning", text)
		select {
		case <-m.done:
			return
		case <-time.After(watchEvery):
		}
	}
}

// siteText says that a certificate ends soon, or has ended; "" if it does neither.
func siteText(s *web.Site, now time.Time) string {
	if !s.EndsSoon(now) {
		return ""
	}
	what := "ends on"
	if !now.Before(s.Until()) {
		what = "has ended on"
	}
	return fmt.Sprintf("the pages' certificate for %s, by %s, %s %s: give them another, or browsers warn", s.Names()[0], s.Issuer(), what, s.Until().Format(time.DateOnly))
}

// certificate is what is shown to a caller: to who asks for one of the pages' names what
// browsers are to trust, and to everybody else, as to the cluster's own, the host's.
func (m *member) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p := m.page.Load(); p != nil {
		if c := p.For(hello.ServerName, time.Now()); c != nil {
			return c, nil
		}
	}
	return m.shown.Load(), nil
}

// answerOnLink answers for those names of the pages that are of the link, where this
// host's API is reached from other machines.
func (h *Host) answerOnLink(m *member) {
	addr, ok := h.linkAddr()
	if !ok {
		return
	}
	var names []string
	var on io.Closer
	end := func() {
		if on != nil {
			if err := on.Close(); err != nil {
				h.log.Debug("names on the link", "error", err)
			}
			on = nil
		}
	}
	defer end()
	var failed time.Time
	for said := false; ; {
		var want []string
		if p := m.page.Load(); p != nil {
			want = slices.DeleteFunc(slices.Clone(p.Names()), func(n string) bool { return !strings.HasSuffix(n, web.Link) })
		}
		if !slices.Equal(want, names) || on == nil && len(want) > 0 && time.Since(failed) > linkRetry {
			end()
			names = want
			if len(want) > 0 {
				c, err := mdns.Answer(want, addr)
				if on = c; err != nil {
					on, failed = nil, time.Now()
				}
				if err != nil && !said {
					h.log.Info("the pages' names are not answered for on the link", "error", err)
				}
				said = err != nil
			}
		}
		select {
		case <-m.done:
			return
		case <-time.After(endpointsEvery):
		}
	}
}

// linkAddr is the address that the API is reached at from other machines, if it is one
// of this machine's that others know.
func (h *Host) linkAddr() (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(h.cfg.Listen.API)
	addr := at.Addr()
	if err == nil && addr.IsUnspecified() {
		addr, err = netip.ParseAddr(h.cfg.Advertise)
	}
	return addr.Unmap(), err == nil && !addr.IsLoopback() && !addr.IsUnspecified()
}

// pages are those of the cluster, for the API.
func (h *Host) pages() (*web.Store, *web.Page, error) {
	m, err := h.member()
	if err != nil {
		return nil, nil, err
	}
	p := m.page.Load()
	if p == nil {
		return nil, nil, holdfast.Errorf(holdfast.Unavailable, "this host has no certificate for the pages' names yet; try again in a moment")
	}
	return m.web, p, nil
}

func newWebStore(m *member) *web.Store {
	return &web.Store{KV: m.kv, Clock: clock.System{}, Rand: rand.Reader, Cluster: m.ms.Load().Name}
}
