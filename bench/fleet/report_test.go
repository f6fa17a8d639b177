package main

import (
	"strings"
	"testing"
)

func TestAPartIsWrittenAnew(t *testing.T) {
	r := &report{load: "1", loaded: "2"}
	r.add("60 VMs", "lists", "1/s", "≥ 1000", []float64{3, 1, 2})
	doc := "before\n" + partBegins + "old\n" + partEnds + "after\n"
	is, err := replaced([]byte(doc), r.markdown())
	if err != nil || strings.Contains(string(is), "old") || !strings.HasPrefix(string(is), "before\n") || !strings.HasSuffix(string(is), "after\n") ||
		!strings.Contains(string(is), "| 60 VMs | lists | 2 1/s (1 to 3) | ≥ 1000 |") {
		t.Errorf("%v\n%s", err, is)
	}
	for _, bad := range []string{"", "before\n" + partBegins, partEnds + partBegins} {
		if _, err := replaced([]byte(bad), "x"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
