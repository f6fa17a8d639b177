package link

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLane(s Shape) *lane { return &lane{shape: s, rng: rand.New(rand.NewPCG(1, 2))} }

func TestALaneTakesAsLongAsItsRateAndDelaySay(t *testing.T) {
	l := newLane(Shape{Rate: 1_000_000, Delay: 600 * time.Millisecond}) // 125 bytes a millisecond
	for i := range 10 {
		due, ok := l.offer(0, 1250)
		if want := 600*time.Millisecond + time.Duration(i+1)*10*time.Millisecond; !ok || due != want {
			t.Fatalf("packet %d arrives after %v (%v), not %v", i, due, ok, want)
		}
	}
	if due, _ := l.offer(5*time.Second, 1250); due != 5*time.Second+610*time.Millisecond {
		t.Errorf("after a pause a packet arrives at %v: the line was not used meanwhile", due)
	}
}

func TestALaneDropsWhatWouldWaitTooLong(t *testing.T) {
	l := newLane(Shape{Rate: 100_000}) // 12.5 kB a second
	taken := 0
	for range 100 {
		if _, ok := l.offer(0, 1250); ok {
			taken++
		}
	}
	if taken != 10 || l.count.Dropped != 90 {
		t.Errorf("%d packets of a tenth of a second each were taken at once, %d dropped; a second of them may wait", taken, l.count.Dropped)
	}
}

func TestALaneHoldsBoundedMemory(t *testing.T) {
	l := newLane(Shape{Delay: 10 * time.Second})
	for range maxHeld/1024 + 100 {
		l.offer(0, 1024)
	}
	if l.held > maxHeld || l.count.Dropped != 100 {
		t.Errorf("%d bytes are under way, %d packets were dropped", l.held, l.count.Dropped)
	}
}

func TestALaneLosesItsShareAndKeepsTheOrder(t *testing.T) {
	l := newLane(Shape{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.2})
	var last time.Duration
	early, late := false, false
	for i := range 10_000 {
		now := time.Duration(i) * 20 * time.Millisecond
		due, ok := l.offer(now, 100)
		if !ok {
			continue
		}
		l.arrived(100)
		if due < last || due < now+10*time.Millisecond || due > now+20*time.Millisecond {
			t.Fatalf("a packet of %v arrives at %v, the one before at %v", now, due, last)
		}
		early, late = early || due < now+12*time.Millisecond, late || due > now+18*time.Millisecond
		last = due
	}
	if l.count.Lost < 1800 || l.count.Lost > 2200 || !early || !late {
		t.Errorf("%d of 10000 packets were lost at a loss of 20 %%; some arrived early: %v, late: %v", l.count.Lost, early, late)
	}
}

// datagram is an IPv4 header and a number.
func datagram(from, to string, n uint32) []byte {
	b := make([]byte, 24)
	b[0] = 0x45
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddr(to).AsSlice())
	binary.BigEndian.PutUint32(b[20:], n)
	return b
}

func TestALineCarriesWhatIsDueInOrder(t *testing.T) {
	var now time.Duration
	var got []uint32
	l := newLine(func() time.Duration { return now }, func(b []byte) { got = append(got, binary.BigEndian.Uint32(b[20:])) })
	a, b := netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("198.18.2.1")
	l.set([]Spec{
		{Name: "a>b", Shape: Shape{Delay: 100 * time.Millisecond}, Pairs: [][2]netip.Addr{{a, b}}},
		{Name: "b>a", Shape: Shape{Delay: 10 * time.Millisecond}, Pairs: [][2]netip.Addr{{b, a}}},
	})
	l.take(datagram("198.18.1.1", "198.18.2.1", 1))
	l.take(datagram("198.18.2.1", "198.18.1.1", 2))
	l.take(datagram("198.18.1.1", "198.18.2.1", 3))
	l.take(datagram("198.18.9.9", "198.18.2.1", 4)) // of no lane
	l.take([]byte("no packet"))
	for _, now = range []time.Duration{5 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
		for {
			p, ok, _ := l.moving.next(now)
			if !ok {
				break
			}
			l.write(p.data)
		}
	}
	if len(got) != 4 || got[0] != 4 || got[1] != 2 || got[2] != 1 || got[3] != 3 {
		t.Errorf("packets arrived as %v", got)
	}
	if c := l.counts(); c["a>b"].Carried != 2 || c["b>a"].Carried != 1 {
		t.Errorf("counted %v", c)
	}
	l.set([]Spec{{Name: "a>b", Shape: Shape{Loss: 0.5}}})
	if c := l.counts(); len(c) != 1 || c["a>b"].Carried != 2 {
		t.Errorf("a lane that got another shape counts %v", c)
	}
}

func TestPacketsAreDeliveredWhenTheyAreDue(t *testing.T) {
	arrived := make(chan []byte, 2)
	begun := time.Now()
	l := newLine(func() time.Duration { return time.Since(begun) }, func(b []byte) { arrived <- append([]byte(nil), b...) })
	a, b := netip.MustParseAddr("198.18.1.1"), netip.MustParseAddr("198.18.2.1")
	l.set([]Spec{{Name: "a>b", Shape: Shape{Delay: 30 * time.Millisecond}, Pairs: [][2]netip.Addr{{a, b}}}})
	done, over := make(chan struct{}), make(chan struct{})
	go func() { defer close(over); l.deliver(done) }()
	sent := time.Since(begun)
	l.take(datagram("198.18.1.1", "198.18.2.1", 1))
	<-arrived
	if d := time.Since(begun) - sent; d < 30*time.Millisecond {
		t.Errorf("a packet arrived after %v, before it was due", d)
	}
	close(done)
	<-over
}

func TestRatesAndShares(t *testing.T) {
	for text, want := range map[string]int64{"1mbit": 1_000_000, "512kbit": 512_000, "1.5Mbit": 1_500_000, "10gbit": 10_000_000_000, "8000bit": 8000} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		if back, err := ParseRate(FormatRate(want)); err != nil || back != want {
			t.Errorf("%d is written as %s", want, FormatRate(want))
		}
	}
	for _, text := range []string{"", "1", "mbit", "-1mbit", "1bit", "NaNmbit", "infgbit", "1mbyte"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q is taken for %d bits a second", text, got)
		}
	}
	if got, err := ParseLoss("2%"); err != nil || got != 0.02 {
		t.Errorf("2%% is %v, %v", got, err)
	}
	for _, text := range []string{"", "2", "100%", "-1%", "NaN%", "%"} {
		if got, err := ParseLoss(text); err == nil {
			t.Errorf("%q is taken for a loss of %v", text, got)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"set":true,"lanes":[{"name":"a>b","shape":{"rate_bits":1000000,"loss":0.02},"pairs":[["198.18.1.1","198.18.2.1"]]}]}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRequest(strings.NewReader(text))
		if err != nil {
			return
		}
		l := newLine(func() time.Duration { return 0 }, func([]byte) {})
		l.set(r.Lanes)
		l.take(datagram("198.18.1.1", "198.18.2.1", 1))
	})
}

func FuzzPacket(f *testing.F) {
	f.Add(datagram("198.18.1.1", "198.18.2.1", 1))
	f.Add([]byte{0x45})
	l := newLine(func() time.Duration { return 0 }, func([]byte) {})
	f.Fuzz(func(t *testing.T, b []byte) { l.take(b) })
}
