package httpapi

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// What is printed is read back, and nothing else than an LSN is read.
func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"", "0.0", "1.7", "16777215.1099511627775", "16777216.0", "1.1099511627776", "1", "1.", ".1", "-1.2", "1.2.3", "1.2 "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLSN(s)
		if err != nil {
			if l != 0 || !holdfast.IsKind(err, holdfast.Invalid) {
				t.Fatalf("%q: %v, %v", s, l, err)
			}
			return
		}
		if again, err := parseLSN(l.String()); err != nil || again != l {
			t.Fatalf("%q: %v is read back as %v, %v", s, l, again, err)
		}
	})
}
