package serve

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// waitsForEver is what stands in the stacks of TestAStopIsBounded.
func waitsForEver(never <-chan struct{}) { <-never }

// TestAStopIsBounded: a host that hangs while it stops ends all the same, and says at
// what. One that returns by itself is not cut short.
func TestAStopIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	never := make(chan struct{})
	defer close(never)
	var said bytes.Buffer
	err := within(ctx, time.Millisecond, &said, func() error { waitsForEver(never); return nil })
	if !holdfast.IsKind(err, holdfast.Unavailable) || !strings.Contains(said.String(), "waitsForEver") {
		t.Errorf("a stop that hangs: %v; written: %.200s", err, said.String())
	}

	said.Reset()
	want := errors.New("its own end")
	if err := within(ctx, time.Hour, &said, func() error { return want }); err != want || said.Len() > 0 {
		t.Errorf("a stop that ends: %v; written: %.200s", err, said.String())
	}
	if err := within(t.Context(), 0, &said, func() error { return want }); err != want {
		t.Errorf("a host that ends by itself: %v", err)
	}
}
