package httpapi

import (
	"testing"
	"time"
)

func TestStrangersDoNotFillTheLog(t *testing.T) {
	var f few
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := 0
	for range 1000 {
		if ok, _ := f.allow(at); ok {
			n++
		}
	}
	if n != fewBurst {
		t.Fatalf("%d were let in at once", n)
	}
	if ok, more := f.allow(at.Add(fewEvery)); !ok || more != 1000-fewBurst {
		t.Errorf("later: %v, %d not told of", ok, more)
	}
	if ok, _ := f.allow(at.Add(fewEvery)); ok {
		t.Error("another one at once")
	}
}
