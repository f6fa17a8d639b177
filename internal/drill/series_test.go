package drill

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// round is a drill that ran after so many seconds and was ready one later.
func round(leader, ok bool, running float64) Report {
	return Report{Rack: "a", VM: "drill-probe", From: "a1", KVLeader: leader, OK: ok, ColdBoot: 2, Resent: 3 << 20, Timeline: []Mark{
		{"loss detected", 4, "rack a whole: a1"}, {"VM process running", running, ""}, {"guest ready", running + 0.5, ""},
		{"service answering", running + 1, ""}, {"redundancy back", 20, ""}}}
}

func TestASeriesTellsTheMedianAndTheWorst(t *testing.T) {
	var s Series
	for i, running := range []float64{5, 9, 7} {
		s.add(round(i == 0, true, running))
	}
	s.conclude(3)
	if !s.OK || s.Leaders != 1 {
		t.Fatalf("%d with the leader, checks %+v", s.Leaders, s.Checks)
	}
	var b bytes.Buffer
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	const want = `DRILL  RACK  LEADER LOST  DETECTED  RUNNING  READY  ANSWERING  REDUNDANT  SENT AGAIN  RESULT
1      a     yes          4.0 s     5.0 s    5.5 s  6.0 s      20.0 s     3.0 MiB     ok
2      a     -            4.0 s     9.0 s    9.5 s  10.0 s     20.0 s     3.0 MiB     ok
3      a     -            4.0 s     7.0 s    7.5 s  8.0 s      20.0 s     3.0 MiB     ok

FIGURE                            MEDIAN   WORST    OF
killed → loss detected            4.0 s    4.0 s    3
killed → VM process running       7.0 s    9.0 s    3
VM process running → guest ready  0.5 s    0.5 s    3
killed → service answering        8.0 s    10.0 s   3
  as a ratio to a first boot      4.0      5.0      3
killed → redundancy back          20.0 s   20.0 s   3
sent again                        3.0 MiB  3.0 MiB  3

ok    every drill passed: 3 of 3
ok    the leader was lost often enough: 1 drills killed the rack of the control plane's leader, 1 were wanted
`
	if b.String() != want {
		t.Errorf("got:\n%s", b.String())
	}
}

func TestASeriesIsNotPassedByLuck(t *testing.T) {
	var few, failed Series
	for i := range 10 {
		few.add(round(i < 2, true, 5))
		failed.add(round(true, i != 7, 5))
	}
	few.conclude(10)
	failed.conclude(10)
	if few.OK || failed.OK {
		t.Errorf("two leaders of ten: %v; one failed drill: %v", few.OK, failed.OK)
	}
	var short Series
	short.add(round(true, true, 5))
	if short.conclude(2); short.OK {
		t.Error("a series that ended early is passed")
	}
}

func TestTheMiddle(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(c.of); got != c.want {
			t.Errorf("of %v: %v", c.of, got)
		}
	}
	for _, n := range []int{0, -1, 1001} {
		if err := checkTimes(n); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%d times: %v", n, err)
		}
	}
}
