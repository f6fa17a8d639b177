package history

import "github.com/holdfast-cloud/holdfast"

// Kind is what an operation does.
type Kind string

// The kinds.
const (
	Read   Kind = "read"   // one block
	Write  Kind = "write"  // one block, wholly
	Flush  Kind = "flush"  // everything that was written before
	Keep   Kind = "keep"   // takes a snapshot of the volume
	Revert Kind = "revert" // sets the volume back to a snapshot; nothing else is under way
)

// Op is one operation of one client. Times are nanoseconds of one monotonic clock
// that all clients of a history share; two operations whose times touch may have
// happened in either order.
type Op struct {
	Kind   Kind   `json:"op"`
	Client int    `json:"client,omitempty"`
	Block  uint64 `json:"block,omitempty"`
	// Value is what a block holds: 0 is zeroes, every other value is written to a
	// block once only.
	Value uint64 `json:"value,omitempty"`
	FUA   bool   `json:"fua,omitempty"`  // of a write: it is on disk when it is done
	Snap  uint64 `json:"snap,omitempty"` // of Keep and Revert: the snapshot's number
	// Gen is the cache generation of the session; of a Keep the highest that the
	// snapshot may be of.
	Gen    uint32 `json:"gen,omitempty"`
	Call   int64  `json:"call"`
	Return int64  `json:"return"`
	// Unknown says that nobody knows whether it happened: it failed, or was given
	// up. Return is then when that was, or 0.
	Unknown bool `json:"unknown,omitempty"`
}

// writes reports whether the operation may change its block.
func (o *Op) writes() bool { return o.Kind == Write }

// valid reports what is wrong with an operation by itself.
func (o *Op) valid() error {
	wrong := ""
	switch o.Kind {
	case Read, Write, Flush, Keep, Revert:
	default:
		return holdfast.Errorf(holdfast.Invalid, "a history has no operation %.20q", string(o.Kind))
	}
	switch {
	case o.Call < 0 || o.Return < 0 || !o.Unknown && o.Return < o.Call:
		wrong = "times that cannot be"
	case o.FUA && o.Kind != Write:
		wrong = "FUA, which only a write has"
	case o.Snap != 0 && o.Kind != Keep && o.Kind != Revert:
		wrong = "a snapshot, which only keep and revert have"
	case (o.Block != 0 || o.Value != 0) && o.Kind != Read && o.Kind != Write:
		wrong = "a block, which only read and write have"
	default:
		return nil
	}
	return holdfast.Errorf(holdfast.Invalid, "a %s of a history has %s", o.Kind, wrong)
}
