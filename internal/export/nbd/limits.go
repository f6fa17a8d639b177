package nbd

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Limits bounds what clients can make a server hold. A zero field means its
// default.
type Limits struct {
	// Connections on all sockets together, those in the handshake included.
	// Default 256; a further one is closed at once.
	Connections int
	// Requests of one connection that are not answered yet. Default 256; the
	// server stops reading until one is.
	Requests int
	// Bytes of payload that belong to such requests. Default 32 MiB; one
	// request is always let through, so a connection holds at most
	// Bytes + 32 MiB.
	Bytes int64
	// Handshake is how long a client may take from connecting to the
	// transmission phase, the opening of the volume not counted. Default 20 s.
	Handshake time.Duration
	// Options that a client may send in one handshake. Default 256.
	Options int
}

// maxOption is the longest option data that is read, in bytes; a longer one
// ends the connection. The longest that a client needs names an export
// and a few contexts of at most 4 KiB each.
const maxOption = 64 << 10

// drainTimeout bounds the last write of a connection that ends.
const drainTimeout = 10 * time.Second

func (l Limits) withDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = 256
	}
	if l.Requests <= 0 {
		l.Requests = 256
	}
	if l.Bytes <= 0 {
		l.Bytes = holdfast.MaxIO
	}
	if l.Handshake <= 0 {
		l.Handshake = 20 * time.Second
	}
	if l.Options <= 0 {
		l.Options = 256
	}
	return l
}
