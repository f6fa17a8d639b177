package iscsi

import "time"

// Limits bounds what initiators can make a server hold. A zero field means its
// default.
type Limits struct {
	// Connections on all portals together, those that log in included.
	// Default 256; a further one is closed at once.
	Connections int
	// PerSession is the most connections of one session (MaxConnections).
	// Default 4.
	PerSession int
	// Commands of one session that are not answered yet: the command window.
	// Default 128.
	Commands int
	// Immediate commands and task management requests beside the window.
	// Default 16; a further one is rejected.
	Immediate int
	// Bytes of data that belong to a session's commands. Default 32 MiB. One
	// command is always let through, and what an initiator may send unasked
	// (64 KiB a command) does not wait.
	Bytes int64
	// Login is how long an initiator may take from connecting to full
	// feature phase. Default 20 s.
	Login time.Duration
}

// What this end declares or offers in login (RFC 7143 §13).
const (
	maxRecv        = 256 << 10 // MaxRecvDataSegmentLength
	maxBurst       = 1 << 20
	firstBurst     = 64 << 10
	maxOutstanding = 8 // R2Ts of one command
	loginRecv      = 16 << 10
	maxText        = 64 << 10 // a whole text or login negotiation
	maxLoginPDUs   = 32
	drainTimeout   = 10 * time.Second
	// backlog is how much output, in bytes, may wait for an initiator that
	// does not read before it is no longer read from.
	backlog = 4 << 20
)

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Connections, 256)
	def(&l.PerSession, 4)
	def(&l.Commands, 128)
	def(&l.Immediate, 16)
	if l.Bytes <= 0 {
		l.Bytes = 32 << 20
	}
	if l.Login <= 0 {
		l.Login = 20 * time.Second
	}
	return l
}
