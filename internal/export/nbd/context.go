package nbd

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Metadata contexts: what a block status can be about (proto.md, "Metadata
// querying"; docs/protocol/nbd.md).
const (
	contextAlloc = "base:allocation"
	contextDirty = "holdfast:dirty:" // and the name of a snapshot

	wildBase = "base:"
	wildOurs = "holdfast:"

	// firstContext is the identity of the first context that a client selects;
	// the next one has the next number.
	firstContext = 1
	// maxContexts bounds what one connection selects.
	maxContexts = 16
)

// listAt is the size, in bytes, at which a list of contexts is sent although it
// goes on.
const listAt = 64 << 10

// context is one that a client may select: base:allocation, or with a snapshot
// what has changed since that.
type context struct {
	name  string
	since holdfast.SnapshotID // zero: base:allocation
}

// selection is what a client selected last, and for which export.
type selection struct {
	export   string // as it called it
	contexts []context
}

// needSnapshots reports whether the option is about more than base:allocation.
func (o metaOption) needSnapshots(listing bool) bool {
	return listing && len(o.queries) == 0 || slices.ContainsFunc(o.queries, func(q string) bool {
		return strings.HasPrefix(q, wildOurs)
	})
}

// matches returns the contexts that the option names, each once, in the order of
// the queries; snaps are those of the volume, in order. A listing also knows
// wildcards, and no query as one for all. What is unknown is passed over, as the
// protocol wants it.
func (o metaOption) matches(listing bool, snaps []export.Snapshot) (out []context) {
	add := func(c context) {
		if !slices.ContainsFunc(out, func(x context) bool { return x.name == c.name }) {
			out = append(out, c)
		}
	}
	all := listing && len(o.queries) == 0
	queries := o.queries
	if all {
		queries = []string{wildBase, wildOurs}
	}
	listed := false
	for _, q := range queries {
		switch name, dirty := strings.CutPrefix(q, contextDirty); {
		case q == contextAlloc, listing && q == wildBase:
			add(context{name: contextAlloc})
		case listing && (q == wildOurs || q == contextDirty):
			if !listed { // there may be thousands, and none twice
				listed = true
				out = append(slices.DeleteFunc(out, func(c context) bool { return !c.since.IsZero() }), dirtySince(snaps)...)
			}
		case dirty && !listed:
			if i := slices.IndexFunc(snaps, func(s export.Snapshot) bool { return s.Name == name }); i >= 0 {
				add(context{q, snaps[i].ID})
			}
		}
	}
	return out
}

func dirtySince(snaps []export.Snapshot) []context {
	out := make([]context, len(snaps))
	for i, s := range snaps {
		out[i] = context{contextDirty + s.Name, s.ID}
	}
	return out
}

// metaContext handles NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. An
// error ends the connection.
func (h *handshake) metaContext(opt uint32, data []byte) error {
	set := opt == optSetMetaContext
	if set {
		h.selected = selection{} // a failed option also replaces what was set before
	}
	o, tooBig, good := parseMeta(data)
	_, target, known := h.house.find(o.name)
	switch {
	case !good:
		h.reply(opt, repErrInvalid, "the option is malformed")
		return nil
	case !h.structured:
		h.reply(opt, repErrInvalid, "structured replies must be negotiated first")
		return nil
	case tooBig:
		h.reply(opt, repErrTooBig, "too many queries")
		return nil
	case !known:
		h.reply(opt, repErrUnknown, "no such volume here")
		return nil
	}
	var snaps []export.Snapshot
	if keeper, can := target.(export.Keeper); can && o.needSnapshots(!set) {
		var err error
		if snaps, err = keeper.Snapshots(); err != nil && len(o.queries) > 0 {
			h.reply(opt, repErrUnknown, clip("the volume's snapshots cannot be told now: "+err.Error()))
			return nil
		}
	}
	found := o.matches(!set, snaps)
	if set && len(found) > maxContexts {
		h.reply(opt, repErrTooBig, "too many contexts for one connection")
		return nil
	}
	for i, c := range found {
		id := uint32(0)
		if set {
			id = firstContext + uint32(i)
		}
		h.reply(opt, repMetaContext, string(be.AppendUint32(nil, id))+c.name)
		if len(h.out) >= listAt {
			if err := h.send(); err != nil {
				return err
			}
		}
	}
	if set {
		h.selected = selection{o.name, found}
	}
	h.reply(opt, repAck, "")
	return nil
}

// chosen returns the contexts that were selected for an export, by whichever of
// its names.
func (h *handshake) chosen(canonical string) []context {
	name, _, known := h.house.find(h.selected.export)
	if !h.structured || !known || name != canonical {
		return nil
	}
	return h.selected.contexts
}
