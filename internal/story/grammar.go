package story

import (
	"fmt"
	"strings"
)

// Language reads lines. It holds the forms as they are matched; it does not
// change, so it may be shared.
type Language struct{ forms []compiled }

type compiled struct {
	Form
	parts []part
}

// part is one piece of a pattern: a word, a value, or what may be left out. A
// part that may be left out begins with a word, or is a choice of words, so the
// next word tells whether it is there.
type part struct {
	word        string
	slot, typ   string
	maybe       []part
	mayBeAbsent bool
}

// NewLanguage compiles the forms.
func NewLanguage() *Language {
	l := &Language{}
	for _, f := range Forms() {
		l.forms = append(l.forms, compiled{f, compile(f.Pattern)})
	}
	return l
}

func compile(pattern string) (parts []part) {
	for pattern = strings.TrimSpace(pattern); pattern != ""; pattern = strings.TrimSpace(pattern) {
		switch pattern[0] {
		case '[':
			inner, rest, _ := strings.Cut(pattern[1:], "]")
			parts = append(parts, part{maybe: compile(inner), mayBeAbsent: true})
			pattern = rest
		case '{':
			inner, rest, _ := strings.Cut(pattern[1:], "}")
			slot, typ, two := strings.Cut(inner, ":")
			if !two {
				typ = slot
			}
			parts = append(parts, part{slot: slot, typ: typ})
			pattern = rest
		default:
			word, rest, _ := strings.Cut(pattern, " ")
			parts = append(parts, part{word: word})
			pattern = rest
		}
	}
	return parts
}

// match is one attempt to read words by a form.
type match struct {
	words  []string
	at     int    // the next word
	wanted string // what should have been at it
	out    []string
	values []value
}

func (m *match) all(parts []part) bool {
	for _, p := range parts {
		switch {
		case p.mayBeAbsent:
			if m.begins(p.maybe[0]) && !m.all(p.maybe) {
				return false
			}
		case p.word != "":
			if m.at >= len(m.words) || m.words[m.at] != p.word {
				m.wanted = fmt.Sprintf("%q", p.word)
				return false
			}
			m.out = append(m.out, p.word)
			m.at++
		default:
			if !m.value(p) {
				return false
			}
		}
	}
	return true
}

func (m *match) begins(p part) bool {
	if m.at >= len(m.words) {
		return false
	}
	if p.word != "" {
		return m.words[m.at] == p.word
	}
	_, n := canonical(p.typ, m.words[m.at:])
	return n > 0
}

func (m *match) value(p part) bool {
	if m.at < len(m.words) {
		if text, n := canonical(p.typ, m.words[m.at:]); n > 0 {
			m.out, m.values, m.at = append(m.out, text), append(m.values, value{p.slot, text}), m.at+n
			return true
		}
	}
	m.wanted = what(p.typ)
	if p.slot != p.typ && !strings.Contains(p.typ, "|") {
		m.wanted += " (" + p.slot + ")"
	}
	return false
}

// command reads words as one command. why says what is wrong with them.
func (l *Language) command(words []string) (c Command, why string) {
	var best *match
	var form *compiled
	for i := range l.forms {
		f := &l.forms[i]
		m := &match{words: words}
		if m.all(f.parts) {
			if m.at == len(words) {
				return Command{Kind: f.Kind, Class: f.Class, words: strings.Join(m.out, " "), values: m.values}, ""
			}
			m.wanted = "nothing more"
		}
		if m.at > 0 && (best == nil || m.at > best.at) {
			best, form = m, f
		}
	}
	if best == nil {
		return c, fmt.Sprintf("%q begins nothing that can be said; see docs/format/story.md", words[0])
	}
	if best.at >= len(words) {
		return c, fmt.Sprintf("%s is missing at its end: %s", best.wanted, form.Pattern)
	}
	return c, fmt.Sprintf("%q stands where %s should: %s", words[best.at], best.wanted, form.Pattern)
}
