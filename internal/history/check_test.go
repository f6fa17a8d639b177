package history

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// script makes a history out of lines as people say them, one operation each:
//
//	w 3 [10 20]       write 3, done
//	w 3 [10 …]        write 3, its fate unknown
//	r 3 [10 20]       read 3
//	f [10 20]         flush
//	W 3 [10 20]       write 3 with FUA
//	keep 1 [10 20], revert 1 [10 20], revert 1 [10 …]
//	lost              the memory of all replicas was lost
func script(t *testing.T, text string) (ops []Op) {
	t.Helper()
	gen := uint32(0)
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(line))
		if len(f) == 0 {
			continue
		}
		if f[0] == "lost" {
			gen++
			continue
		}
		o := Op{Gen: gen}
		num := func(s string) (n int64) {
			for _, c := range s {
				n = n*10 + int64(c-'0')
			}
			return n
		}
		args := f[1:]
		if f[0] != "f" {
			v := uint64(num(f[1]))
			args = f[2:]
			if f[0] == "keep" || f[0] == "revert" {
				o.Snap = v
			} else {
				o.Value = v
			}
		}
		o.Call = num(args[0])
		if o.Unknown = args[1] == "…"; !o.Unknown {
			o.Return = num(args[1])
		}
		switch f[0] {
		case "W":
			o.Kind, o.FUA = Write, true
		case "w":
			o.Kind = Write
		case "r":
			o.Kind = Read
		case "f":
			o.Kind = Flush
		default:
			o.Kind = Kind(f[0])
		}
		ops = append(ops, o)
	}
	return ops
}

func TestWhatCanHaveHappened(t *testing.T) {
	for _, c := range []struct{ what, ops string }{
		{"nothing was ever written", "r 0 [1 2]"},
		{"what was written is read", "w 1 [1 2]\n r 1 [3 4]"},
		{"a write under way may be seen, or not yet", "w 1 [1 9]\n r 0 [2 3]\n r 1 [4 5]"},
		{"two writes side by side end in either order", "w 1 [1 9]\n w 2 [1 9]\n r 1 [10 11]"},
		{"moments that touch have no order", "w 1 [1 2]\n r 0 [2 3]"},
		{"a write that failed never came", "w 1 [1 …]\n r 0 [5 6]\n r 0 [7 8]"},
		{"a write that failed came late", "w 1 [1 …]\n r 0 [5 6]\n r 1 [7 8]"},
		{"zeroes whose fate is unknown came late", "w 1 [1 2]\n w 0 [3 …]\n r 1 [5 6]\n r 0 [7 8]\n w 2 [9 10]\n r 2 [11 12]"},
		{"what was not flushed is lost", "w 1 [1 2]\n f [3 4]\n w 2 [5 6]\n lost\n r 1 [10 11]"},
		{"what was not flushed is not lost either", "w 1 [1 2]\n f [3 4]\n w 2 [5 6]\n lost\n r 2 [10 11]"},
		{"a flush beside a write does not cover it", "w 1 [1 9]\n f [3 4]\n lost\n r 0 [10 11]"},
		{"a failed flush covers nothing", "w 1 [1 2]\n f [3 …]\n lost\n r 0 [10 11]"},
		{"what was lost twice", "w 1 [1 2]\n lost\n r 0 [3 4]\n w 2 [5 6]\n lost\n r 0 [7 8]"},
		{"a volume that was set back shows its snapshot", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n revert 1 [7 8]\n r 1 [9 10]"},
		{"a snapshot that was taken beside a write has it or not", "w 1 [1 2]\n keep 1 [3 6]\n w 2 [4 5]\n revert 1 [7 8]\n r 1 [9 10]"},
		{"so it has", "w 1 [1 2]\n keep 1 [3 6]\n w 2 [4 5]\n revert 1 [7 8]\n r 2 [9 10]"},
		{"nobody knows whether it was set back", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n revert 1 [7 …]\n r 2 [9 10]"},
		{"and it was", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n revert 1 [7 …]\n r 1 [9 10]"},
		{"it was not, and then memory was lost", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n f [7 8]\n w 3 [9 10]\n revert 1 [11 …]\n lost\n r 2 [20 21]"},
		{"a snapshot was taken when memory had been lost already", "w 1 [1 2]\n f [3 4]\n w 2 [5 6]\n lost\n keep 1 [8 9]\n w 3 [11 12]\n revert 1 [13 14]\n r 1 [15 16]"},
	} {
		v, err := Check(script(t, c.ops))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		for i := range v.Violations {
			t.Errorf("%s: %v", c.what, &v.Violations[i])
		}
	}
}

func TestWhatCannotHaveHappened(t *testing.T) {
	for _, c := range []struct{ what, ops string }{
		{"a read of what nobody wrote", "r 7 [1 2]"},
		{"a read of what is written later", "r 1 [1 2]\n w 1 [3 4]"},
		{"a stale read", "w 1 [1 2]\n w 2 [3 4]\n r 1 [5 6]"},
		{"an acknowledged write is gone", "w 1 [1 2]\n r 0 [3 4]"},
		{"a write that was seen is not there any more", "w 1 [1 …]\n r 1 [2 3]\n r 0 [4 5]"},
		{"a read that goes back while a write is under way", "w 1 [1 9]\n r 1 [2 3]\n r 0 [4 5]"},
		{"two readers see two writes in two orders", "w 1 [1 9]\n w 2 [1 9]\n r 1 [10 11]\n r 2 [12 13]"},
		{"a flushed write is lost with the memory", "w 1 [1 2]\n f [3 4]\n lost\n r 0 [10 11]"},
		{"so is one with FUA", "W 1 [1 2]\n lost\n r 0 [10 11]"},
		{"a write that was read and flushed is lost with the memory", "w 1 [1 …]\n r 1 [2 3]\n f [4 5]\n lost\n r 0 [10 11]"},
		{"what was lost comes back", "w 1 [1 2]\n lost\n r 0 [10 11]\n r 1 [12 13]"},
		{"what was lost comes back with the next loss", "w 1 [1 2]\n lost\n r 0 [3 4]\n f [5 6]\n lost\n r 1 [7 8]"},
		{"a write that was overwritten before a flush", "w 1 [1 2]\n w 2 [3 4]\n f [5 6]\n lost\n r 1 [10 11]"},
		{"a volume that was set back and was not", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n revert 1 [7 8]\n r 2 [9 10]"},
		{"a snapshot that has a later write", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n w 3 [7 8]\n revert 1 [9 10]\n r 2 [11 12]"},
		{"a volume that was set back loses that with the memory", "w 1 [1 2]\n keep 1 [3 4]\n w 2 [5 6]\n f [7 8]\n revert 1 [9 10]\n lost\n r 2 [11 12]"},
	} {
		v, err := Check(script(t, c.ops))
		if err != nil || len(v.Violations) != 1 {
			t.Errorf("%s: %+v, %v", c.what, v, err)
		}
	}
}

// What does not belong to it is left out of what is told.
func TestAViolationIsToldShortly(t *testing.T) {
	v, err := Check(script(t, "w 1 [1 2]\n r 1 [3 4]\n w 2 [5 6]\n r 1 [7 8]\n w 3 [9 10]\n r 3 [11 12]"))
	if err != nil || len(v.Violations) != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	if bad := v.Violations[0]; len(bad.Ops) != 4 || !strings.Contains(bad.String(), "block 0") || !strings.HasSuffix(bad.String(), "read 1") {
		t.Errorf("%v", &bad)
	}
}

func TestWhatCannotBeJudged(t *testing.T) {
	for _, ops := range [][]Op{
		script(t, "w 1 [1 2]\n w 1 [3 4]"),
		script(t, "keep 1 [1 2]\n keep 1 [3 4]"),
		script(t, "revert 1 [1 2]"),
		script(t, "r 1 [2 1]"),
		{{Kind: "fly"}},
		{{Kind: Read, FUA: true}},
		{{Kind: Flush, Block: 1}},
	} {
		if _, err := Check(ops); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%+v: %v", ops, err)
		}
	}
}

// Random histories of a real register, with losses of memory and snapshots, are
// never blamed; one read of them that is changed into a stale one always is.
func TestHistoriesOfARealRegister(t *testing.T) {
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 1))
		ops := random(rng)
		v, err := Check(ops)
		if err != nil || len(v.Violations) > 0 {
			t.Fatalf("seed %d: %v, %+v\n%+v", seed, err, v, ops)
		}
		if i, stale := staleRead(ops); i >= 0 {
			ops[i].Value = stale
			if v, err := Check(ops); err != nil || len(v.Violations) != 1 {
				t.Fatalf("seed %d: operation %d made stale: %v, %+v\n%+v", seed, i, err, v, ops)
			}
		}
	}
}

// staleRead finds a read and what it would be wrong for it to have read: a write of
// the same generation that was done, and then certainly overwritten.
func staleRead(ops []Op) (int, uint64) {
	for i, r := range ops {
		for _, a := range ops {
			for _, b := range ops {
				same := r.Kind == Read && a.Kind == Write && b.Kind == Write && r.Gen == a.Gen && r.Gen == b.Gen
				if same && a.Value != 0 && !a.Unknown && !b.Unknown && a.Return < b.Call && b.Return < r.Call && !slices.ContainsFunc(ops, func(o Op) bool { return o.Kind == Revert }) {
					return i, a.Value
				}
			}
		}
	}
	return -1, 0
}

// random plays a register that keeps what it must: a value in memory, one on disk.
func random(rng *rand.Rand) (ops []Op) {
	var now, disk, tag, snaps uint64
	var kept []uint64
	gen, at := uint32(0), int64(0)
	loses := rng.IntN(3) == 0
	for range 40 + rng.IntN(200) {
		call := at + 1 + rng.Int64N(3)
		end := call + rng.Int64N(6)
		at = call + rng.Int64N(3) // the next may overlap
		o := Op{Call: call, Return: end, Gen: gen}
		switch k := rng.IntN(20); {
		case k < 8:
			o.Kind = Write
			if rng.IntN(5) > 0 {
				tag++
				o.Value = tag
			}
			if rng.IntN(6) == 0 {
				o.Unknown, o.Return = true, 0
			}
			if o.FUA = rng.IntN(8) == 0; !o.Unknown || rng.IntN(2) == 0 {
				if now = o.Value; o.FUA {
					disk = now
				}
			}
		case k < 16:
			o.Kind, o.Value = Read, now
		case k < 17:
			o.Kind, disk = Flush, now
		case k < 18:
			snaps++
			o.Kind, o.Snap = Keep, snaps
			kept = append(kept, now)
		case k < 19 && len(kept) > 0:
			at = call + 10 // what is under way ends first
			o.Call, o.Return = at, at+1
			n := rng.IntN(len(kept))
			o.Kind, o.Snap, now, disk = Revert, uint64(n+1), kept[n], kept[n]
			at += 2
		case loses:
			gen++
			if rng.IntN(2) == 0 {
				now = disk
			}
			disk = now
			at += 10
			continue
		default:
			continue
		}
		ops = append(ops, o)
	}
	return ops
}

// A history is judged in pieces where it may be: this one would take a long time,
// and much memory, in one.
func TestALongHistoryIsJudgedInPieces(t *testing.T) {
	var ops []Op
	at := int64(0)
	for tag := range uint64(20000) {
		ops = append(ops, Op{Kind: Write, Value: tag + 1, Call: at, Return: at + 3}, Op{Kind: Read, Value: tag, Call: at + 1, Return: at + 2})
		at += 4
		if tag%10 == 9 {
			ops = append(ops, Op{Kind: Read, Value: tag + 1, Call: at, Return: at + 1})
			at += 3
		}
	}
	v, err := Check(ops)
	if err != nil || len(v.Violations) > 0 || v.Reads != 22000 || v.Writes != 20000 {
		t.Fatalf("%v %+v", err, v)
	}
	part, rest := split(ops)
	if len(part) > 2*splitAfter || len(rest) == 0 {
		t.Errorf("it is cut after %d operations", len(part))
	}
	ops[30000].Value += 1 << 40
	if v, err = Check(ops); err != nil || len(v.Violations) != 1 {
		t.Errorf("%v, %+v", err, v)
	}
}
