package v1

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestAClusterKeyIsOneLine(t *testing.T) {
	s, err := NewClusterKey(rand.Reader)
	if err != nil || strings.Count(s, "\n") != 1 {
		t.Fatalf("%v", err)
	}
	k, err := ParseClusterKey("  " + s + "\r\n")
	if err != nil || ClusterKeyText(k) != s {
		t.Error(err)
	}
	for _, bad := range []string{"", "hfkey1-", s[:40], s + s, strings.Replace(s, "hfkey1", "hfkey2", 1), strings.TrimSpace(s) + "0", s[:20] + "g" + s[21:]} {
		if _, err := ParseClusterKey(bad); !holdfast.IsKind(err, holdfast.Invalid) || len(bad) > 20 && strings.Contains(err.Error(), bad[10:20]) {
			t.Errorf("%.20q…: %v", bad, err)
		}
	}
}

func FuzzParseClusterKey(f *testing.F) {
	f.Add(ClusterKeyText([KeySize]byte{1, 2, 3}))
	f.Add("hfkey1-00")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseClusterKey(s)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("kind of %v", err)
			}
			return
		}
		if again, err := ParseClusterKey(ClusterKeyText(k)); err != nil || again != k {
			t.Error("it did not survive")
		}
	})
}
