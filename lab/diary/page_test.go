package diary

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// A story is what consoles print, "HOST: LINE" each. "HOST: |" is a console that
// is attached anew, "HOST: new" a new machine.
func play(t *testing.T, story ...string) *page {
	t.Helper()
	p := &page{vm: "vm"}
	at := map[string]*reader{}
	pid := 1
	for i, s := range story {
		host, text, _ := strings.Cut(s, ": ")
		if text == "new" {
			pid++
		}
		if at[host] == nil || text == "|" || text == "new" {
			at[host] = p.attach(host, pid)
		}
		if text == "|" || text == "new" {
			continue
		}
		l, err := probe.ParseLine(text)
		if err != nil {
			t.Fatal(err)
		}
		at[host].take(l, time.Unix(int64(i), 0))
	}
	return p
}

func wants(t *testing.T, p *page, wrong string) {
	t.Helper()
	if got := strings.Join(p.wrong, "; "); wrong == "" && got != "" || !strings.Contains(got, wrong) {
		t.Errorf("found %q, which should say %q", got, wrong)
	}
}

func boot(host string, found int) []string {
	return []string{host + ": probe start", fmt.Sprintf("%s: probe boot verified %d highest %d", host, found, found), host + ": probe ready"}
}

func story(parts ...[]string) (out []string) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func TestAVMThatMovesIsNothingWrong(t *testing.T) {
	p := play(t, story(boot("a", 0), []string{"a: flushed 1", "a: flushed 2"}, boot("b", 2), []string{"b: flushed 3"})...)
	wants(t, p, "")
	if len(p.bouts) != 2 || p.flushed != 3 || p.writer.Host != "b" {
		t.Errorf("%d boots, flushed %d, written by %s", len(p.bouts), p.flushed, p.writer.Host)
	}
}

func TestALostWriteIsFound(t *testing.T) {
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1", "a: flushed 2"}, boot("b", 1))...), "lost flushed writes")
}

func TestTwoMachinesThatWriteAreFound(t *testing.T) {
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1"}, boot("b", 1), []string{"b: flushed 2", "a: flushed 2"})...), "two machines")
}

// What the old machine reports late was flushed before the new one began.
func TestALateReportIsNoWrite(t *testing.T) {
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1"}, boot("b", 2), []string{"b: flushed 3", "a: flushed 2"})...), "")
}

func TestAConsoleThatIsAttachedAnewRepeatsItself(t *testing.T) {
	p := play(t, story(boot("a", 0), []string{"a: flushed 1", "a: flushed 2", "a: |"}, boot("a", 0), []string{"a: flushed 1", "a: flushed 2", "a: flushed 3"},
		[]string{"a: |", "a: flushed 3", "a: flushed 4"})...)
	wants(t, p, "")
	if len(p.bouts) != 1 || p.flushed != 4 {
		t.Errorf("%d boots, flushed %d", len(p.bouts), p.flushed)
	}
}

// A machine that starts on an old state of its disk is none that repeats itself.
func TestANewMachineThatForgotIsFound(t *testing.T) {
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1", "a: flushed 2", "a: new"}, boot("a", 0))...), "lost flushed writes")
}

func TestAConsoleThatIsAttachedAnewRepeatsAllBoots(t *testing.T) {
	both := story(boot("a", 0), []string{"a: flushed 1"}, boot("a", 1), []string{"a: flushed 2"})
	p := play(t, story(both, []string{"a: |"}, both, []string{"a: flushed 3"})...)
	wants(t, p, "")
	if len(p.bouts) != 2 || p.flushed != 3 {
		t.Errorf("%d boots, flushed %d", len(p.bouts), p.flushed)
	}
}

func TestAResetIsABootThatMustFindEverything(t *testing.T) {
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1"}, boot("a", 1), []string{"a: flushed 2"})...), "")
	wants(t, play(t, story(boot("a", 0), []string{"a: flushed 1"}, boot("a", 0))...), "lost flushed writes")
}

func TestWhatTheGuestFindsIsTold(t *testing.T) {
	wants(t, play(t, "a: probe ERROR disk"), "probe ERROR disk")
}
