package holdfast

import (
	"errors"
	"fmt"
)

// Kind classes an error for programs. Kinds cross the wire and the API by
// their number and are only ever appended to.
type Kind uint8

// The kinds of error.
const (
	Other       Kind = iota // anything not classed below
	Invalid                 // the request is malformed or out of range; retrying cannot help
	NotFound                // the named thing does not exist
	Exists                  // the name is taken
	Conflict                // somebody else changed it first; read again and retry
	Fenced                  // the caller's epoch, lease or membership is over; it must stop
	Corrupt                 // stored bytes do not match their hash
	Damaged                 // a replica or disk lost what it had promised to keep
	Unavailable             // cannot be reached or done now; retry later
	Unknown                 // the outcome of a commit is not known; read before acting
	NoSpace                 // the disk or pool is full
	Busy                    // held by somebody else
	Denied                  // not authenticated or not permitted
	Closed                  // the thing was shut down
	IO                      // a device failed
	Gap                     // a record does not follow the last one held
	LostCache               // the session's unflushed writes are gone; it must not go on
	kinds
)

var kindNames = [kinds]string{
	"other", "invalid", "not found", "exists", "conflict", "fenced", "corrupt", "damaged",
	"unavailable", "unknown outcome", "no space", "busy", "denied", "closed", "i/o error", "gap", "lost cache",
}

// String returns the kind's name.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with a kind. Its text is written for people: what, why
// and what to do.
type Error struct {
	Kind Kind
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind; the format may use %w.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's chain, and Other if
// there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Other
}

// IsKind reports whether err is of kind k.
func IsKind(err error, k Kind) bool { return err != nil && KindOf(err) == k }
