package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
)

// A sync fails, the process dies and comes back: what it reads is in the
// operating system's cache and would never reach the disk by itself.
func TestWhatIsVouchedForAfterAFailedSyncIsOnTheDisk(t *testing.T) {
	for seed := range uint64(40) {
		b := newBed(t, 7000+seed)
		v := b.create(1, 300)
		for i := range uint64(20) {
			v.write(i, i+1)
		}
		v.sync()
		for i := range uint64(200) {
			v.write(i, 1000+i)
		}
		b.d.FailNext(memdisk.Sync, 1)
		if err := b.try(func() error { return syncTo(v.r(), v.state().Prefix) }); err == nil {
			t.Fatal("a sync that failed was not reported")
		}
		b.d.Kill()
		b.host.Kill()
		b.boot()
		b.open()
		st := v.state()
		if st.Damage != "" {
			continue
		}
		b.crash()
		if got := v.state(); got.Durable < st.Durable || got.Damage != "" {
			t.Fatalf("seed %d: %v was durable, %v is left (%s)", seed, st.Durable, got.Durable, got.Damage)
		}
		for i := range uint64(20) {
			if _, err := v.read(i, 1); err != nil {
				t.Fatalf("seed %d: block %d: %v", seed, i, err)
			}
		}
		if _, err := v.read(0, 200); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
