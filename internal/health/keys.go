package health

import (
	"fmt"
	"slices"
	"time"
)

// keys finds the encrypted volumes that are locked, everywhere or on some
// hosts, and tells of a rotation that is under way.
func (b *board) keys() {
	var names []string
	for _, vol := range b.v.Volumes {
		if vol.Encrypted() {
			names = append(names, vol.Name)
		}
	}
	ring := b.v.State.Keyring.Val
	if len(names) > 0 {
		var without []string
		up := 0
		for _, h := range b.v.Hosts {
			if !h.Up() || h.Witness {
				continue // a witness opens no volume
			}
			if up++; !slices.Contains(h.Alive.Keys, ring.Current().ID) {
				without = append(without, h.Name)
			}
		}
		switch {
		case len(without) == 0:
		case len(without) == up:
			b.cause("volumes-locked", Error, fmt.Sprintf("%s locked (%s): the cluster key is loaded on no host; run 'holdfast cluster key unlock'",
				count(len(names), "encrypted volume is", "encrypted volumes are"), list(names)), time.Time{})
		default:
			b.cause("key-missing", Warning, fmt.Sprintf("the cluster key is not loaded on %s: encrypted volumes are not opened there; it is taken from another host within seconds, or by 'holdfast cluster key unlock'", list(without)), time.Time{})
		}
	}
	if len(ring.Keys) > 1 {
		b.cause("key-rotation", Info, fmt.Sprintf("the cluster key is being replaced: %s left to be wrapped under the new one; until then both are needed", count(b.v.State.LeftToWrap(), "volume is", "volumes are")), time.Time{})
	}
}
