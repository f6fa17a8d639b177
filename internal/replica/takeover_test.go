package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

func lsn(e holdfast.Epoch, counter uint64) holdfast.LSN { return holdfast.MakeLSN(e, counter) }

func TestTheCutIsTheHighestUndamagedPrefix(t *testing.T) {
	for name, c := range map[string]struct {
		reports []Report
		want    Cut
		ok      bool
	}{
		"the longest of two": {
			[]Report{{Prefix: lsn(1, 7), Kept: true}, {Prefix: lsn(1, 9), Kept: true}},
			Cut{LSN: lsn(1, 9), Best: 1, Kept: true}, true},
		"a later epoch beats any suffix of a dead one": {
			[]Report{{Prefix: lsn(1, 900)}, {Prefix: lsn(2, 3)}},
			Cut{LSN: lsn(2, 3), Best: 1}, true},
		"damage does not count, however long": {
			[]Report{{Prefix: lsn(1, 9), Kept: true, Damaged: true}, {Prefix: lsn(1, 4)}},
			Cut{LSN: lsn(1, 4), Best: 1}, true},
		"nor does a copy that is not finished": {
			[]Report{{Prefix: lsn(1, 4)}, {Prefix: lsn(1, 9), Kept: true, Building: true}},
			Cut{LSN: lsn(1, 4), Best: 0}, true},
		"the longest need not be the one that kept its memory": {
			[]Report{{Prefix: lsn(1, 9)}, {Prefix: lsn(1, 8), Kept: true}},
			Cut{LSN: lsn(1, 9), Best: 0, Kept: true}, true},
		"even the ineligible granted leases": {
			[]Report{{Prefix: lsn(1, 9), Lease: time.Second}, {Damaged: true, Lease: 2 * time.Second}},
			Cut{LSN: lsn(1, 9), Best: 0, Wait: 2 * time.Second}, true},
		"an empty volume has a cut": {
			[]Report{{Kept: true}}, Cut{Best: 0, Kept: true}, true},
		"nobody is fit":   {[]Report{{Damaged: true}, {Building: true}}, Cut{Best: -1}, false},
		"nobody is there": {nil, Cut{Best: -1}, false},
	} {
		if got, ok := Takeover(c.reports); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, ok, c.want, c.ok)
		}
	}
}

func TestAnOpeningIsHigherThanEverybodyHeardOf(t *testing.T) {
	if e := Next(4); e != 5 {
		t.Errorf("after 4 comes %d", e)
	}
	if e := Next(4, 2, 9, 7); e != 10 {
		t.Errorf("after a promise of 9 comes %d", e)
	}
}

// copyOf is a replica's content in a model: every record in order, control
// records that start an epoch included.
type copyOf struct {
	lsns    []holdfast.LSN
	history []record.Start
}

func (c copyOf) prefix() holdfast.LSN {
	if len(c.lsns) == 0 {
		return 0
	}
	return c.lsns[len(c.lsns)-1]
}

// upto returns the copy truncated to a cut.
func (c copyOf) upto(cut holdfast.LSN) (out copyOf) {
	for _, l := range c.lsns {
		if l <= cut {
			out.lsns = append(out.lsns, l)
		}
	}
	for _, s := range c.history {
		if lsn(s.Epoch, 0) <= cut {
			out.history = append(out.history, s)
		}
	}
	return out
}

// shared is the truth that Common must find: the highest LSN up to which two
// copies hold the same.
func shared(a, b copyOf) (l holdfast.LSN) {
	for i := 0; i < len(a.lsns) && i < len(b.lsns) && a.lsns[i] == b.lsns[i]; i++ {
		l = a.lsns[i]
	}
	return l
}

// TestWhereHistoriesPart plays any sequence of openings, writes and losses over
// some replicas. Whoever is reached at an opening is cut or filled to the best
// of them; the others keep what they have, for later. At any moment Common must
// find, of any two, the last LSN that they really share.
func TestWhereHistoriesPart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		copies := make([]copyOf, rapid.IntRange(2, 4).Draw(t, "replicas"))
		var epoch holdfast.Epoch
		for range rapid.IntRange(1, 12).Draw(t, "openings") {
			epoch += holdfast.Epoch(rapid.IntRange(1, 3).Draw(t, "epochs passed"))
			var reached []int
			for i := range copies {
				if rapid.Bool().Draw(t, "reached") {
					reached = append(reached, i)
				}
			}
			if len(reached) == 0 {
				continue
			}
			openAt(t, copies, reached, epoch)
			n := uint64(rapid.IntRange(0, 5).Draw(t, "written"))
			for _, i := range reached {
				// Each holds a prefix of what was written when the writer died.
				for k := uint64(1); k <= min(n, uint64(rapid.IntRange(0, 5).Draw(t, "received"))); k++ {
					copies[i].lsns = append(copies[i].lsns, lsn(epoch, k))
				}
			}
			for a := range copies {
				for b := range copies {
					x, y := copies[a], copies[b]
					want := shared(x, y)
					if got := Common(x.history, x.prefix(), y.history, y.prefix()); got != want {
						t.Fatalf("replicas %d and %d share all up to %v, found %v\n%v\n%v", a, b, want, got, x, y)
					}
				}
			}
		}
	})
}

// openAt opens epoch on the replicas reached.
func openAt(t *rapid.T, copies []copyOf, reached []int, epoch holdfast.Epoch) {
	var reports []Report
	for _, i := range reached {
		reports = append(reports, Report{Prefix: copies[i].prefix()})
	}
	cut, ok := Takeover(reports)
	if !ok {
		t.Fatal("nobody is eligible")
	}
	best := copies[reached[cut.Best]]
	start := record.Start{Epoch: epoch, Prev: cut.LSN.Epoch(), Cut: cut.LSN}
	for _, i := range reached {
		// Filled from the last LSN it shares with the best, as a real one is.
		c := copies[i]
		keep := c.upto(Common(c.history, c.prefix(), best.history, best.prefix()))
		for _, l := range best.lsns {
			if l > keep.prefix() {
				keep.lsns = append(keep.lsns, l)
			}
		}
		keep.history = append(slices.Clone(best.history), start)
		keep.lsns = append(keep.lsns, lsn(epoch, 0))
		copies[i] = keep
	}
	for _, i := range reached[1:] {
		if !slices.Equal(copies[i].lsns, copies[reached[0]].lsns) {
			t.Fatalf("after the opening replicas differ: %v", copies)
		}
	}
}

// TestAReturningReplicaKeepsWhatTheOthersKept tells two stories in full.
func TestAReturningReplicaKeepsWhatTheOthersKept(t *testing.T) {
	first := record.Start{Epoch: 1}
	second := record.Start{Epoch: 2, Prev: 1, Cut: lsn(1, 5)}
	third := record.Start{Epoch: 3, Prev: 2, Cut: lsn(2, 8)}
	for name, c := range map[string]struct {
		mine     []record.Start
		at       holdfast.LSN
		theirs   []record.Start
		theyAt   holdfast.LSN
		expected holdfast.LSN
	}{
		"it lagged": {[]record.Start{first}, lsn(1, 3), []record.Start{first, second}, lsn(2, 1), lsn(1, 3)},
		"it had a suffix that was never acknowledged": {
			[]record.Start{first}, lsn(1, 9), []record.Start{first, second}, lsn(2, 1), lsn(1, 5)},
		"it missed two openings": {
			[]record.Start{first}, lsn(1, 9), []record.Start{first, second, third}, lsn(3, 4), lsn(1, 5)},
		"it opened an epoch that nobody else saw": {
			[]record.Start{first, {Epoch: 3, Prev: 1, Cut: lsn(1, 5)}}, lsn(3, 2), []record.Start{first, second}, lsn(2, 9), lsn(1, 5)},
		"nothing happened": {[]record.Start{first, second}, lsn(2, 4), []record.Start{first, second}, lsn(2, 4), lsn(2, 4)},
		"it is empty":      {nil, 0, []record.Start{first, second}, lsn(2, 4), 0},
	} {
		if got := Common(c.mine, c.at, c.theirs, c.theyAt); got != c.expected {
			t.Errorf("%s: it keeps all up to %v, want %v", name, got, c.expected)
		}
		if got := Common(c.theirs, c.theyAt, c.mine, c.at); got != c.expected {
			t.Errorf("%s, seen from the other side: %v, want %v", name, got, c.expected)
		}
	}
}

func (c copyOf) String() string { return fmt.Sprintf("%v, history %v", c.lsns, c.history) }
