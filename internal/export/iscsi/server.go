package iscsi

import (
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// Config is what a Server is made from.
type Config struct {
	Limits Limits
	Log    *slog.Logger // nil discards
	// Forward connects to the host that serves a target which is offered here
	// without a device: to a ServeConn there, with the given portal group and
	// the initiator's address. nil: such targets are not available.
	Forward func(target string, group uint16, from string) (net.Conn, error)
	// Settle is asked before a login is refused because its target is not known
	// here or the initiator not on its list, and before one to a target that is
	// offered here without a device goes on: that what is offered is up to date,
	// and that some host serves the target. That may be this one: then the
	// target is offered with its device when Settle returns. nil: is not asked.
	Settle func(target string)
	// Refused is told of every login that was refused for who the initiator is
	// or says to be; nil: nobody is.
	Refused func(Refusal)
	// Elsewhere lists portals of other hosts that lead to a target, for
	// discovery; nil: none.
	Elsewhere func(target string) []Address
}

// Refusal is a login that was turned away.
type Refusal struct {
	Target, Initiator, From string // as the initiator stated them; Target is "" for discovery
	Why                     string
}

// Address is a portal as initiators are told of it: a host and port that they
// reach, and its portal group tag.
type Address struct {
	Addr  string
	Group uint16
}

// Target is what a server offers under an iSCSI name.
type Target struct {
	Name   string       // an iSCSI name: iqn., eui. or naa.
	Alias  string       // for people
	Device *scsi.Device // nil: another host serves it (Config.Forward)
	Access Access
}

// Server serves targets. Its methods may be called from any goroutine.
type Server struct {
	lim  Limits
	log  *slog.Logger
	cfg  Config
	pool *buffer.Pool

	mu       sync.Mutex
	targets  map[string]*offer
	portals  []*portal
	conns    map[*connection]struct{}
	sessions map[uint16]*session // by TSIH
	carried  map[*carriage]struct{}
	lastTSIH uint16
	closed   bool
	serving  sync.WaitGroup // accept loops and connections
}

// offer is one target with its sessions.
type offer struct {
	Target
	sessions map[*session]struct{} // belongs to the server's lock
	gone     bool
}

// portal is a listening address.
type portal struct {
	ln    net.Listener // nil for connections of ServeConn
	told  string       // what discovery tells, "" for what the initiator used
	group uint16
}

// New returns a server without portals and targets.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{lim: cfg.Limits.withDefaults(), log: cfg.Log, cfg: cfg, pool: &buffer.Pool{},
		targets: map[string]*offer{}, conns: map[*connection]struct{}{}, sessions: map[uint16]*session{}, carried: map[*carriage]struct{}{}}
}

// Listen opens a portal of a portal group, 1 to 65535. told is the address
// that discovery tells initiators, "" for the one they came by. Errors: IO if
// the address cannot be had.
func (s *Server) Listen(addr, told string, group uint16) (net.Addr, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "listen for iSCSI initiators on %s: %w", addr, err)
	}
	if err := s.Serve(ln, told, group); err != nil {
		ln.Close()
		return nil, err
	}
	return ln.Addr(), nil
}

// Serve makes a listener a portal; it closes with the server. Connections may
// be of any kind.
func (s *Server) Serve(ln net.Listener, told string, group uint16) error {
	if group == 0 {
		return holdfast.Errorf(holdfast.Invalid, "portal group 0 does not exist")
	}
	p := &portal{ln: ln, told: told, group: group}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed()
	}
	s.portals = append(s.portals, p)
	s.serving.Add(1)
	go s.accept(p)
	return nil
}

func errClosed() error { return holdfast.Errorf(holdfast.Closed, "the iSCSI server is shutting down") }

// Offer makes a target known. The server closes its device at Withdraw.
// Errors: Invalid for a name that is none or credentials that cannot be used,
// Exists, Closed.
func (s *Server) Offer(t Target) error {
	if !pdu.ValidName(t.Name) {
		return holdfast.Errorf(holdfast.Invalid, "%q is no iSCSI name; one looks like iqn.2026-11.org.example:volume", clip(t.Name))
	}
	if err := t.Access.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed()
	case s.targets[t.Name] != nil:
		return holdfast.Errorf(holdfast.Exists, "target %s is offered already", t.Name)
	}
	s.targets[t.Name] = &offer{Target: t, sessions: map[*session]struct{}{}}
	return nil
}

// SetAccess changes who may log in to a target. Sessions of initiators that are
// not on the list any more, or whose secret has changed, end. Errors: NotFound,
// Invalid for credentials that cannot be used.
func (s *Server) SetAccess(name string, a Access) error {
	if err := a.check(); err != nil {
		return err
	}
	s.mu.Lock()
	o := s.targets[name]
	if o == nil {
		s.mu.Unlock()
		return holdfast.Errorf(holdfast.NotFound, "target %s is not offered", name)
	}
	o.Access = a
	var out []*session
	for x := range o.sessions {
		if !slices.Contains(a.of(x.initiator), x.entry) {
			out = append(out, x)
		}
	}
	s.mu.Unlock()
	for _, x := range out {
		x.end(holdfast.Errorf(holdfast.Denied, "the initiator may not use the target any more"))
	}
	return nil
}

// Withdraw ends the offer of a target and its sessions, and closes its device.
// It returns when that is done.
func (s *Server) Withdraw(name string) {
	s.mu.Lock()
	o := s.targets[name]
	if o == nil {
		s.mu.Unlock()
		return
	}
	delete(s.targets, name)
	o.gone = true
	var open []*session
	for x := range o.sessions {
		open = append(open, x)
	}
	s.mu.Unlock()
	for _, x := range open {
		x.announce(pdu.EventDropSession)
		x.end(holdfast.Errorf(holdfast.Closed, "the target is no longer offered"))
	}
	for _, x := range open {
		<-x.ended
	}
	if o.Device != nil {
		o.Device.Close()
	}
}

// Sessions counts the sessions of a target, by the name it is offered under.
func (s *Server) Sessions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.targets[name]; o != nil {
		return len(o.sessions)
	}
	return 0
}

// Close withdraws everything and waits for every connection to end.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	portals := s.portals
	s.portals = nil
	names := slices.Sorted(maps.Keys(s.targets))
	s.mu.Unlock()
	for _, p := range portals {
		p.ln.Close()
	}
	for _, n := range names {
		s.Withdraw(n)
	}
	s.mu.Lock()
	for c := range s.conns {
		c.nc.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) accept(p *portal) {
	defer s.serving.Done()
	for {
		nc, err := p.ln.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed || !temporary(err) {
				return
			}
			time.Sleep(50 * time.Millisecond) // out of file descriptors, most likely: others may end
			continue
		}
		s.serve(nc, p, nc.RemoteAddr().String())
	}
}

// temporary reports whether another Accept may succeed.
func temporary(err error) bool {
	te, ok := err.(interface{ Temporary() bool })
	return ok && te.Temporary()
}

// serve starts a connection, or refuses one too many.
func (s *Server) serve(nc net.Conn, p *portal, from string) {
	c := newConnection(s, nc, p)
	c.from = from
	s.mu.Lock()
	if s.closed || len(s.conns) >= s.lim.Connections {
		s.mu.Unlock()
		s.log.Warn("an iSCSI connection too many is refused", "from", from, "limit", s.lim.Connections)
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.serving.Done()
		c.run()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// find returns a target that is offered, or nil, and who may log in.
func (s *Server) find(name string) (*offer, Access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.targets[name]; o != nil {
		return o, o.Access
	}
	return nil, Access{}
}

func clip(s string) string { return s[:min(len(s), 200)] }
