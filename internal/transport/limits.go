package transport

import (
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// MaxErrorText bounds the text of an error that crosses the wire, in bytes;
// longer texts are cut.
const MaxErrorText = 1024

// Check refuses, with kind Invalid, what a frame cannot carry.
func (f Frame) Check() error {
	if n := len(f.Head); n > MaxHead {
		return holdfast.Errorf(holdfast.Invalid, "frame of kind %d: head of %d bytes, at most %d are carried", f.Kind, n, MaxHead)
	}
	if n := f.BulkLen(); n > MaxBulk {
		return holdfast.Errorf(holdfast.Invalid, "frame of kind %d: bulk of %d bytes, at most %d are carried; send it in parts", f.Kind, n, MaxBulk)
	}
	return nil
}

// BulkLen returns the length of all pieces of Bulk together, in bytes.
func (f Frame) BulkLen() int {
	n := 0
	for _, p := range f.Bulk {
		n += len(p)
	}
	return n
}

// ErrorText returns what of err's text crosses the wire.
func ErrorText(err error) string {
	text := err.Error()
	if len(text) > MaxErrorText {
		text = strings.ToValidUTF8(text[:MaxErrorText-len("…")], "") + "…"
	}
	return text
}
