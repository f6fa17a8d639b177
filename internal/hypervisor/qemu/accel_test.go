package qemu

import (
	"os"
	"testing"
	"time"
)

func TestTheAcceleratorIsMeasuredOnceAndKept(t *testing.T) {
	dir := shortDir(t)
	choose := func() (name, why string) {
		h, err := New(Config{Dir: dir})
		if err != nil {
			t.Skip(err)
		}
		defer h.Close()
		return h.Accelerator()
	}
	name, why := choose()
	t.Logf("%s: %s", name, why)
	if name != "kvm" && name != "tcg" || why == "" {
		t.Fatalf("%q, %q", name, why)
	}
	if _, err := os.Stat(kvmDevice); err != nil {
		if name != "tcg" {
			t.Fatalf("%s without %s", name, kvmDevice)
		}
		return
	}
	if again, whyAgain := choose(); again != name || whyAgain != why {
		t.Fatalf("first %q because %q, then %q because %q", name, why, again, whyAgain)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "accelerator.json" {
		t.Fatalf("left behind: %v", left)
	}
}

func TestTheTrialGuestRunsUnderEmulation(t *testing.T) {
	h := newHypervisor(t, shortDir(t))
	took, err := h.trial("tcg", time.Minute)
	if err != nil || took <= 0 {
		t.Fatalf("%v, %v", took, err)
	}
}
