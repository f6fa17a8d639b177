package telemetry

import (
	"fmt"
	"strings"
	"testing"
)

func TestATailKeepsTheLastWholeLines(t *testing.T) {
	tail := NewTail(100)
	if tail.Text() != "" {
		t.Errorf("nothing was written, and there is %q", tail.Text())
	}
	var all strings.Builder
	for i := range 300 {
		line := fmt.Sprintf("line %d%s\n", i, strings.Repeat("x", i%7))
		fmt.Fprint(tail, line)
		all.WriteString(line)
		got := tail.Text()
		if len(got) > 100 || !strings.HasSuffix(all.String(), got) || got != "" && !strings.HasPrefix(got, "line ") {
			t.Fatalf("after line %d: %q", i, got)
		}
		if i > 20 && len(got) < 100-16 {
			t.Fatalf("after line %d only %d bytes are left", i, len(got))
		}
	}
	fmt.Fprint(tail, strings.Repeat("y", 1000)+"\nlast\n")
	if got := tail.Text(); got != "last\n" {
		t.Errorf("after a long line: %q", got)
	}
}
