// Package export is the seam between a volume and the protocols that make it
// reachable. A Target is what a server (export/nbd, later export/iscsi)
// offers; a Disk is one initiator's open session on it. Fake: export/memexport;
// conformance: export/exporttest.
package export

import "github.com/holdfast-cloud/holdfast"

// Op is what a request asks for.
type Op uint8

// The operations.
const (
	Read  Op = iota
	Write    // Data is written
	Flush    // every write completed before the submission becomes durable
	Trim     // the range is not needed; it reads as zero afterwards
	Zero     // the range becomes zero
)

// Request is one operation on a disk. Off and Length are in bytes, may be
// unaligned, and lie within the disk: servers check before they submit.
type Request struct {
	Op     Op
	Off    int64
	Length int64  // for Read and Write: len(Data)
	Data   []byte // lent to the disk until Done is called
	FUA    bool   // Write, Trim, Zero: durable before completion
	// Next says that another request of the same session is submitted at once, or
	// Push is called: a disk that is a Pusher may let this one wait for that. Of
	// other disks it means nothing.
	Next bool
	// More is set by the disk before Done, and cleared by whoever submits: at
	// once after this one, another request of the same session completes on the
	// same task. A server may gather the answers.
	More bool
	// Later is set by the disk before Done, and cleared by whoever submits: once
	// this is answered, a Push is welcome.
	Later bool
	// Alone says that whoever submits has nothing else to do until this has been
	// done: Submit may do on its task, and block for, what otherwise another task
	// would do.
	Alone bool
	// Done is called exactly once, from any task, possibly before Submit
	// returns. It must not block.
	Done func(r *Request, err error)
}

// Extent is a run of bytes of one kind.
type Extent struct {
	Length int64
	Hole   bool // reads as zero and takes no space
}

// Disk is one session on a target. Requests that overlap in time have no order.
type Disk interface {
	// Size in bytes; it may grow, never shrink, while the session lasts.
	Size() int64
	// Submit starts a request. Requests complete in any order. Errors: kind
	// IO, Corrupt, NoSpace, Fenced, LostCache, Closed; after Fenced, LostCache
	// and Closed the session is over and every request fails.
	Submit(r *Request)
	// Extents describes [off, off+n) in order, at most max pieces. It blocks.
	Extents(off, n int64, max int) ([]Extent, error)
	// Close ends the session after its requests have completed. It blocks.
	Close()
}

// Pusher is a Disk that handles several requests at the price of one if it is
// told that they come together.
type Pusher interface {
	// Push makes the disk go on with what was submitted with Next set, or
	// completed with Later set. It may do so on the caller's task, and block, if
	// that is alone: nothing of its session is under way, and it has nothing else
	// to do before more comes.
	Push(alone bool)
}

// Target is a volume that may be opened.
type Target interface {
	// Open starts a session. A second writing session is refused with kind
	// Busy, and so is one beside those of OpenShared. It blocks.
	Open(readOnly bool) (Disk, error)
	// Size in bytes and whether only reading is allowed, for listing.
	Size() int64
	ReadOnly() bool
}

// Sharer is a Target that several may write at the same time, if its volume says
// so: then a flush or FUA of one session covers what was completed on all of
// them, and each reads what any of them wrote.
type Sharer interface {
	// OpenShared starts a writing session. If the volume says so, and it is
	// written where the session is opened, it is shared: further ones begun so
	// are let in there beside it. Otherwise it is like Open(false).
	OpenShared() (d Disk, shared bool, err error)
	// Shared reports whether a session begun by OpenShared now would be.
	Shared() bool
}

// Server makes targets reachable by name.
type Server interface {
	// Publish offers t under a volume's name and returns where a hypervisor on
	// this host finds it (a socket path).
	Publish(id holdfast.VolumeID, name string, t Target) (string, error)
	// Withdraw ends the offer and its sessions.
	Withdraw(id holdfast.VolumeID)
}

// Do submits r and waits for it; for code that does one thing at a time.
// wait is given a function that blocks until wake was called.
func Do(d Disk, r Request, newEvent func() (wake func(), wait func())) error {
	wake, wait := newEvent()
	var err error
	r.Done = func(_ *Request, e error) { err = e; wake() }
	d.Submit(&r)
	wait()
	return err
}

// Cached is a Disk that tells the generation of its volume's cache: if it
// differs between two sessions, writes of the first that no flush covered may
// be gone.
type Cached interface {
	CacheGeneration() uint64
}

// Thin is a Disk that knows the space that it shares with others: how many
// bytes are in use there and how many more can be.
type Thin interface {
	Space() (used, left int64)
}
