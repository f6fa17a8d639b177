package cluster

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// PeekVolume reads a volume's record, without the pages of its snapshots, with a
// Range of some map: for checks that look at the map itself instead of a picture
// of it.
func PeekVolume(read func(prefix string) ([]kv.Item, kv.Rev, error), id holdfast.VolumeID) (Volume, error) {
	key := dirVolume + id.String()
	items, _, err := read(key)
	if err != nil {
		return Volume{}, err
	}
	for _, it := range items {
		if it.Key == key {
			return decode(volumeKind(), key, it.Value)
		}
	}
	return Volume{}, holdfast.Errorf(holdfast.NotFound, "volume %s has no record", id.Short())
}
