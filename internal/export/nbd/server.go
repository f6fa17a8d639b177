package nbd

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/transport/awake"
)

// maxSocketPath is the longest path of a unix socket on Linux, in bytes
// (sockaddr_un.sun_path without its terminator).
const maxSocketPath = 107

// socketName is the name of a volume's socket in the volume's directory.
const socketName = "nbd"

// Config is what a Server is made from.
type Config struct {
	// Dir is where the sockets are made: Dir/<16 digits of the volume's
	// id>/nbd. It is created, and closed to other users; a hypervisor under
	// another user is given the volume's own directory by a bind mount, which
	// stays valid when the socket is made anew.
	Dir    string
	Limits Limits
	Log    *slog.Logger // nil discards
	// Awake keeps processors from sleeping while clients wait for each answer;
	// nil: they may.
	Awake *awake.Keeper
}

// Server implements export.Server over NBD.
type Server struct {
	dir  string
	lim  Limits
	log  *slog.Logger
	pool *buffer.Pool

	awake *awake.Keeper

	mu      sync.Mutex
	byID    map[holdfast.VolumeID]*offer
	byName  map[string]*offer
	tcp     []net.Listener
	conns   map[*connection]struct{}
	closed  bool
	serving sync.WaitGroup // accept loops and connections
}

var _ export.Server = (*Server)(nil)

// New returns a server that offers nothing yet. Errors: Invalid for a path too
// long for sockets, IO if the directory cannot be made.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		dir: cfg.Dir, lim: cfg.Limits.withDefaults(), log: cfg.Log, pool: &buffer.Pool{}, awake: cfg.Awake,
		byID: map[holdfast.VolumeID]*offer{}, byName: map[string]*offer{}, conns: map[*connection]struct{}{},
	}
	if path := s.socketPath(holdfast.VolumeID{}); len(path) > maxSocketPath {
		return nil, holdfast.Errorf(holdfast.Invalid,
			"nbd sockets would have paths of %d bytes (%s), but Linux allows %d: choose a directory with a shorter path",
			len(path), path, maxSocketPath)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "make the directory of the nbd sockets: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "close the directory of the nbd sockets to others: %w", err)
	}
	return s, nil
}

func (s *Server) socketPath(id holdfast.VolumeID) string {
	hex := id.String()
	return filepath.Join(s.dir, hex[:8]+hex[9:13]+hex[14:18], socketName)
}

// offer is one published volume.
type offer struct {
	id     holdfast.VolumeID
	name   string
	target export.Target
	ln     net.Listener
}

// Publish implements export.Server. Errors: Exists if the id or the name is
// offered already, Invalid for a name that is no NBD string, IO.
func (s *Server) Publish(id holdfast.VolumeID, name string, t export.Target) (string, error) {
	if name == "" || !validString(name) {
		return "", holdfast.Errorf(holdfast.Invalid, "%q cannot be the name of an export", clip(name))
	}
	o := &offer{id: id, name: name, target: t}
	if err := s.reserve(o); err != nil {
		return "", err
	}
	path := s.socketPath(id)
	ln, err := listenUnix(path)
	if err != nil {
		s.release(o)
		return "", holdfast.Errorf(holdfast.IO, "offer volume %s: %w", name, err)
	}
	s.mu.Lock()
	o.ln = ln
	if s.byID[id] != o { // withdrawn or closed meanwhile
		s.mu.Unlock()
		ln.Close()
		return "", errClosed()
	}
	s.serving.Add(1)
	s.mu.Unlock()
	go s.accept(ln, o, nil)
	return path, nil
}

func errClosed() error {
	return holdfast.Errorf(holdfast.Closed, "the nbd server is shutting down")
}

func (s *Server) reserve(o *offer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed()
	case s.byID[o.id] != nil:
		return holdfast.Errorf(holdfast.Exists, "volume %s is offered already", o.name)
	case s.byName[o.name] != nil:
		return holdfast.Errorf(holdfast.Exists, "another volume is offered under the name %q", o.name)
	}
	s.byID[o.id], s.byName[o.name] = o, o
	return nil
}

// release takes o out of the tables and reports whether it was there.
func (s *Server) release(o *offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[o.id] == o {
		delete(s.byID, o.id)
		delete(s.byName, o.name)
	}
}

// listenUnix makes a socket in a directory of its own. One that a killed
// process left behind is replaced; the caller holds the data directory's
// lock, so nobody alive owns it. The socket may be used by any user, its
// grandparent directory entered by none but this one (see Config.Dir).
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
		os.Remove(path)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// Withdraw implements export.Server. It returns when the volume's last
// session has been closed.
func (s *Server) Withdraw(id holdfast.VolumeID) {
	s.withdraw(id)
	os.Remove(filepath.Dir(s.socketPath(id)))
}

// Renew ends the sessions at a volume's socket: the machine there begins new ones
// at once, asks again for what was not answered, and learns of the volume's size.
func (s *Server) Renew(id holdfast.VolumeID) {
	s.mu.Lock()
	var bound []*connection
	for c := range s.conns {
		if _, here := c.raw.(*net.UnixConn); here && c.offer != nil && c.offer == s.byID[id] {
			bound = append(bound, c)
		}
	}
	s.mu.Unlock()
	for _, c := range bound {
		c.raw.Close()
	}
}

// withdraw leaves the directory of the socket: a machine that outlives this
// process has it bound into its jail, and looks there for the next socket.
func (s *Server) withdraw(id holdfast.VolumeID) {
	s.mu.Lock()
	o := s.byID[id]
	if o == nil {
		s.mu.Unlock()
		return
	}
	delete(s.byID, id)
	delete(s.byName, o.name)
	ln := o.ln
	var bound []*connection
	for c := range s.conns {
		if c.offer == o {
			bound = append(bound, c)
		}
	}
	s.mu.Unlock()
	if ln != nil {
		ln.Close() // unlinks the socket
	}
	for _, c := range bound {
		c.raw.Close()
	}
	for _, c := range bound {
		<-c.done
	}
}

// Close withdraws everything and waits for every session to end. Clients that
// connect again find the next server at the same paths.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	var ids []holdfast.VolumeID
	for id := range s.byID {
		ids = append(ids, id)
	}
	tcp := s.tcp
	s.tcp = nil
	for c := range s.conns {
		c.raw.Close()
	}
	s.mu.Unlock()
	for _, ln := range tcp {
		ln.Close()
	}
	for _, id := range ids {
		s.withdraw(id)
	}
	s.serving.Wait()
	return nil
}

// names returns what is offered, in order.
func (s *Server) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for n := range s.byName {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// quiet reports whether a connection's end is not worth a warning.
func quiet(err error) bool {
	return err == nil || errors.Is(err, errLeft) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
