package main

import "testing"

func TestGarbageIsBoundedWhateverIsLive(t *testing.T) {
	const mib = 1 << 20
	for _, live := range []uint64{0, 1, mib, 9 * mib, 20 * mib, 64 * mib, 300 * mib, 1 << 40} {
		p := garbagePercent(live, false)
		if garbage := live / 100 * uint64(p); p < leastPercent || p > mostPercent || garbage > max(garbageRoom, live/2) {
			t.Errorf("with %d bytes live, %d %% more may be garbage", live, p)
		}
		p = garbagePercent(live, true)
		if garbage := live / 100 * uint64(p); p < witnessPercent || p > mostPercent || garbage > max(witnessRoom, live/6) {
			t.Errorf("with %d bytes live, %d %% more may be garbage on a witness", live, p)
		}
	}
}
