package sim

import (
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// Replace puts text between the marks of a part of a page that programs write:
//
//	<!-- made: NAME -->
//	…
//	<!-- end: NAME -->
func Replace(page, name, text string) (string, error) {
	first, last := "<!-- made: "+name+" -->\n", "<!-- end: "+name+" -->"
	head, rest, ok := strings.Cut(page, first)
	_, tail, closed := strings.Cut(rest, last)
	if !ok || !closed {
		return "", holdfast.Errorf(holdfast.Invalid, "the page has no part %q between its marks", name)
	}
	return head + first + text + last + tail, nil
}
