package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A host's live heap is small, and by Go's default as much garbage as that may
// gather between collections: under load there would be several a second. A host
// lets garbageRoom gather instead, whatever is live, but never less than half of
// what is: so memory stays bounded when the live heap is large. A witness has
// little to do and, on an old laptop or a router, little memory.
const (
	garbageRoom  = 40 << 20
	leastPercent = 50
	mostPercent  = 400

	witnessRoom    = 3 << 20
	witnessPercent = 15 // at least
)

// garbagePercent is the debug.SetGCPercent for a live heap in bytes.
func garbagePercent(live uint64, witness bool) int {
	room, least := uint64(garbageRoom), uint64(leastPercent)
	if witness {
		room, least = witnessRoom, witnessPercent
	}
	if live == 0 { // nothing has been collected yet
		if witness {
			return 100
		}
		return mostPercent
	}
	return int(max(least, min(mostPercent, 100*room/live)))
}

// watchGarbage keeps the collector's target in step with the live heap until ctx
// ends.
func watchGarbage(ctx context.Context, witness bool) {
	if os.Getenv("GOGC") != "" {
		return // somebody wants it otherwise
	}
	every := time.NewTicker(2 * time.Second)
	defer every.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := 100; ; {
		metrics.Read(live)
		if want := garbagePercent(live[0].Value.Uint64(), witness); want > now*5/4 || want < now*4/5 {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}
