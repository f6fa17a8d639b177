package probe

import (
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// What says which line of the guest's serial output a Line is.
type What uint8

// The lines, in the order in which a healthy guest prints them.
const (
	Start    What = iota + 1 // the program runs
	Verified                 // everything on the boot disk is right: Count blocks, the last one Counter
	Ready                    // the loop begins
	Flushed                  // every block up to Counter is flushed
	Corrupt                  // Slot is wrong; the guest will halt
	Halted                   // the guest stopped after it found Count wrong slots
	Failed                   // a request or the set-up failed; Text says which
	// Of a second disk:
	SecondVerified // everything on it is right
	SecondFlushed  // every block on it up to Counter is flushed
)

// Line is one parsed line of the guest's serial output.
type Line struct {
	What    What
	Counter uint32 // Verified: the highest; Flushed; Corrupt: what the slot holds
	Count   uint32 // Verified: blocks; Halted: wrong slots
	Slot    uint32 // Corrupt
	Text    string // the line itself, without its end
}

const startText = "probe start"

// maxLine bounds what ParseLine looks at.
const maxLine = 200

// ParseLine reads one line, with or without its line end. A line that the
// guest did not print whole (a console may be attached in the middle of one)
// is an error of kind Invalid.
func ParseLine(s string) (Line, error) {
	text := strings.TrimRight(s, "\r\n")
	l := Line{Text: text}
	ok := false
	switch {
	case len(text) > maxLine:
	case strings.HasSuffix(text, startText):
		l.What, ok = Start, true // what stands before it is a line that a reset has cut short
	case text == "probe ready":
		l.What, ok = Ready, true
	case strings.HasPrefix(text, "probe ERROR "):
		l.What, ok = Failed, true
	case strings.HasPrefix(text, "flushed "):
		l.What = Flushed
		ok = scan(text, "flushed ", &l.Counter)
	case strings.HasPrefix(text, "second flushed "):
		l.What = SecondFlushed
		ok = scan(text, "second flushed ", &l.Counter)
	case strings.HasPrefix(text, "probe second verified "):
		l.What = SecondVerified
		ok = scan(text, "probe second verified ", &l.Count, " highest ", &l.Counter)
	case strings.HasPrefix(text, "probe boot verified "):
		l.What = Verified
		ok = scan(text, "probe boot verified ", &l.Count, " highest ", &l.Counter)
	case strings.HasPrefix(text, "probe halted corrupt "):
		l.What = Halted
		ok = scan(text, "probe halted corrupt ", &l.Count)
	case strings.HasPrefix(text, "probe CORRUPT slot "):
		l.What = Corrupt
		var wanted uint32
		ok = scan(text, "probe CORRUPT slot ", &l.Slot, " claims ", &l.Counter) ||
			scan(text, "probe CORRUPT slot ", &l.Slot, " holds ", &l.Counter, " wanted ", &wanted)
	}
	if !ok {
		return Line{}, holdfast.Errorf(holdfast.Invalid, "%.80q is not a line of the probe guest", text)
	}
	return l, nil
}

// scan matches s as a sequence of constant strings and decimal numbers.
func scan(s string, parts ...any) bool {
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			rest, found := strings.CutPrefix(s, p)
			if !found {
				return false
			}
			s = rest
		case *uint32:
			end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
			if end < 0 {
				end = len(s)
			}
			v, err := strconv.ParseUint(s[:end], 10, 32)
			if err != nil || end > 1 && s[0] == '0' {
				return false
			}
			*p, s = uint32(v), s[end:]
		}
	}
	return s == ""
}

// String prints the line as the guest does.
func (l Line) String() string { return l.Text }

// FlushedLine returns the report of a flushed counter, with its line end.
func FlushedLine(counter uint32) string {
	return "flushed " + strconv.FormatUint(uint64(counter), 10) + "\n"
}

// VerifiedLine returns the report of a verified disk, with its line end.
func VerifiedLine(count, highest uint32) string {
	return "probe boot verified " + strconv.FormatUint(uint64(count), 10) +
		" highest " + strconv.FormatUint(uint64(highest), 10) + "\n"
}

// SecondFlushedLine is FlushedLine of the second disk.
func SecondFlushedLine(counter uint32) string { return "second " + FlushedLine(counter) }

// SecondVerifiedLine is VerifiedLine of the second disk.
func SecondVerifiedLine(count, highest uint32) string {
	return "probe second verified " + strconv.FormatUint(uint64(count), 10) +
		" highest " + strconv.FormatUint(uint64(highest), 10) + "\n"
}

// CorruptLine returns the report of a wrong slot, with its line end.
func CorruptLine(slot, claims uint32) string {
	return "probe CORRUPT slot " + strconv.FormatUint(uint64(slot), 10) +
		" claims " + strconv.FormatUint(uint64(claims), 10) + "\n"
}
