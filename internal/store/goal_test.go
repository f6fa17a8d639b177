package store

import "testing"

// However small or large a disk is: the cleaner works before writers wait, and
// writers wait before what is on its way is refused; and what may be live leaves
// room for the cleaner to work.
func TestTheCleanerWorksBeforeWritersWait(t *testing.T) {
	for places := uint32(minPlaces); places < 70000; places += 1 + places/50 {
		for _, segment := range []int64{minSegmentBytes, 16 << 20} {
			s := &Store{sb: superblock{places: places, segmentBytes: segment}, o: Options{}.withDefaults(), space: newSpace(64, places)}
			l := s.levels()
			if l.floor < 4 || l.stall <= l.floor || l.low < l.stall+l.batch || l.high <= l.low+1 || s.reserve() <= l.high {
				t.Fatalf("a disk of %d places: %+v, reserve %d", places, l, s.reserve())
			}
			if places >= 200 && s.reserve() != int(places)*reservePercent/100 {
				t.Fatalf("a disk of %d places keeps %d in reserve", places, s.reserve())
			}
		}
	}
}
