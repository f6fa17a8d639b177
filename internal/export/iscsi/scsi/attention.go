package scsi

import "slices"

// maxAttentions bounds the unit attentions kept for one nexus; there are not
// more different ones.
const maxAttentions = 16

// attentions are the unit attention conditions of one nexus, oldest first
// (SAM-5 §5.14). Each is kept once.
type attentions []Code

func (a *attentions) add(c Code) {
	if isReset(c) { // a reset makes everything before it void
		*a = (*a)[:0]
	}
	if slices.Contains(*a, c) || len(*a) >= maxAttentions {
		return
	}
	*a = append(*a, c)
}

func (a *attentions) take() (Code, bool) {
	if len(*a) == 0 {
		return 0, false
	}
	c := (*a)[0]
	*a = slices.Delete(*a, 0, 1)
	return c, true
}

// isReset reports whether a condition tells of a reset of the unit.
func isReset(c Code) bool { return c>>8 == 0x29 && c != NexusLoss }
