package cli

import (
	"strings"
	"testing"
	"time"
)

func TestProgressWithoutATerminalIsALineNowAndThen(t *testing.T) {
	var out strings.Builder
	begun := time.Unix(1000, 0)
	l := &lines{out: &out, what: "importing debian", total: 100 << 20, begun: begun, next: begun.Add(sayEvery)}
	for i := range 12 {
		l.add(5<<20, begun.Add(time.Duration(i+1)*time.Second))
	}
	open := &lines{out: &out, what: "importing -", total: -1, begun: begun, next: begun.Add(sayEvery)}
	open.add(10<<20, begun.Add(10*time.Second))
	const want = `importing debian: 25 % of 100MiB, 5MiB/s, 15s left
importing debian: 50 % of 100MiB, 5MiB/s, 10s left
importing -: 10MiB, 1MiB/s
`
	if out.String() != want {
		t.Errorf("it says\n%s", out.String())
	}
}
