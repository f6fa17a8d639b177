package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"

	"github.com/holdfast-cloud/holdfast"
)

// Version is that of the format (docs/format/history.md).
const Version = 1

// Limits of what is read.
const (
	maxLine = 64 << 10
	maxOps  = 50 << 20
)

// head is the first line.
type head struct {
	Version int    `json:"holdfast_history"`
	Volume  string `json:"volume"`
}

// Encode writes the history of a volume as lines of JSON.
func Encode(w io.Writer, volume string, ops []Op) error {
	b := bufio.NewWriter(w)
	e := json.NewEncoder(b)
	err := e.Encode(head{Version, volume})
	for i := range ops {
		if err == nil {
			err = e.Encode(&ops[i])
		}
	}
	if err = errors.Join(err, b.Flush()); err != nil {
		return holdfast.Errorf(holdfast.IO, "the history of volume %s: %w", volume, err)
	}
	return nil
}

// Decode reads what Encode wrote, and refuses what is not a history (kind Invalid).
// A last line that was cut off is left out: its recorder ended there.
func Decode(r io.Reader) (volume string, ops []Op, err error) {
	s := bufio.NewReaderSize(r, maxLine)
	line := func(v any) (bool, error) {
		b, err := s.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return false, nil
		case err == bufio.ErrBufferFull:
			return false, holdfast.Errorf(holdfast.Invalid, "a history has a line of more than %d bytes", maxLine)
		case err != nil:
			return false, holdfast.Errorf(holdfast.IO, "reading a history: %w", err)
		}
		if err := json.Unmarshal(b, v); err != nil {
			return false, holdfast.Errorf(holdfast.Invalid, "line %d of a history is none: %w", len(ops)+2, err)
		}
		return true, nil
	}
	var h head
	ok, err := line(&h)
	if err == nil && (!ok || h.Version != Version) {
		err = holdfast.Errorf(holdfast.Invalid, "this is no history of format %d", Version)
	}
	for err == nil {
		var o Op
		if ok, err = line(&o); err != nil || !ok {
			break
		}
		if err = o.valid(); err == nil && len(ops) == maxOps {
			err = holdfast.Errorf(holdfast.Invalid, "a history has more than %d operations", maxOps)
		}
		ops = append(ops, o)
	}
	if err != nil {
		return "", nil, err
	}
	return h.Volume, ops, nil
}
