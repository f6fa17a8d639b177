package nbd

import (
	"strings"
	"unicode/utf8"
)

// The parsers of option data. Each returns false for data that is malformed;
// none keeps its argument.

// goOption is the data of NBD_OPT_INFO and NBD_OPT_GO.
type goOption struct {
	name string
	// wanted holds a bit for each information type below 16 that was asked for.
	wanted uint16
}

func parseGo(b []byte) (goOption, bool) {
	var o goOption
	name, b, good := cutString(b)
	if !good || len(b) < 2 {
		return o, false
	}
	n := int(be.Uint16(b))
	b = b[2:]
	if len(b) != 2*n {
		return o, false
	}
	o.name = name
	for ; len(b) > 0; b = b[2:] {
		if t := be.Uint16(b); t < 16 {
			o.wanted |= 1 << t
		}
	}
	return o, true
}

func (o goOption) wants(info uint16) bool { return o.wanted>>info&1 != 0 }

func appendGo(b []byte, name string, infos ...uint16) []byte {
	b = appendString(b, name)
	b = be.AppendUint16(b, uint16(len(infos)))
	for _, i := range infos {
		b = be.AppendUint16(b, i)
	}
	return b
}

// maxQueries bounds the queries of one meta context option.
const maxQueries = 64

// metaOption is the data of NBD_OPT_LIST_META_CONTEXT and
// NBD_OPT_SET_META_CONTEXT.
type metaOption struct {
	name    string
	queries []string
}

// parseMeta reports tooBig when the data may be well formed but asks for more
// queries than a client of this server can need.
func parseMeta(b []byte) (o metaOption, tooBig, good bool) {
	o.name, b, good = cutString(b)
	if !good || len(b) < 4 {
		return o, false, false
	}
	n := be.Uint32(b)
	b = b[4:]
	if n > maxQueries {
		return o, true, true
	}
	for range n {
		var q string
		if q, b, good = cutString(b); !good {
			return o, false, false
		}
		o.queries = append(o.queries, q)
	}
	return o, false, len(b) == 0
}

func appendMeta(b []byte, name string, queries ...string) []byte {
	b = appendString(b, name)
	b = be.AppendUint32(b, uint32(len(queries)))
	for _, q := range queries {
		b = appendString(b, q)
	}
	return b
}

// cutString takes a string with a 32-bit length off b.
func cutString(b []byte) (s string, rest []byte, good bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := be.Uint32(b)
	b = b[4:]
	if n > maxString || uint64(n) > uint64(len(b)) {
		return "", nil, false
	}
	s = string(b[:n])
	return s, b[n:], validString(s)
}

func validString(s string) bool {
	return len(s) <= maxString && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func appendString(b []byte, s string) []byte {
	b = be.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
