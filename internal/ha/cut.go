package ha

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// cutBatch is how many volumes one commit cuts: each is a change and may be a
// condition on its writer too, and the timeline goes with them.
const cutBatch = kv.MaxOps / 3

// cut takes volumes from writers that are lost: it raises the epoch and clears
// the writer, wherever an in-sync replica is left to persist it. Without one
// nothing is fenced and nothing could be opened, so the volume keeps waiting for
// its hosts.
func (m *Machine) cut(d *draft) {
	var batch []cluster.Versioned[cluster.Volume]
	var names []string
	var lives []Life
	flush := func() {
		if len(batch) > 0 {
			d.commit(Change{What: Cut, Text: strings.Join(names, ", "), Volumes: batch, Lives: lives})
		}
		batch, names, lives = nil, nil, nil
	}
	told := map[*cluster.Incident][]string{}
	var order []*cluster.Incident
	tell := func() {
		for _, inc := range order {
			d.step(inc, Cut, strings.Join(told[inc], ", "))
		}
		clear(told)
		order = nil
	}
	for _, vol := range d.v.Volumes {
		if !m.cuttable(d, vol) {
			continue
		}
		from := vol.Writer
		if _, member := d.v.State.Hosts[from]; member && !slices.Contains(lives, Life{Host: from}) {
			lives = append(lives, Life{Host: from})
		}
		vol.Epoch++
		vol.Writer = holdfast.HostID{}
		text := fmt.Sprintf("%s at epoch %d", vol.Name, vol.Epoch)
		batch = append(batch, cluster.Versioned[cluster.Volume]{Mod: d.v.State.Volumes[vol.ID].Mod, Val: vol})
		names = append(names, fmt.Sprintf("%s from host %s", text, d.v.HostName(from)))
		if inc := d.covering(d.v.HostName(from)); inc != nil {
			if told[inc] == nil {
				order = append(order, inc)
			}
			told[inc] = append(told[inc], text)
		}
		if len(batch) == cutBatch {
			tell()
			flush()
		}
	}
	tell()
	flush()
}

func (m *Machine) cuttable(d *draft, vol cluster.Volume) bool {
	return !vol.Writer.IsZero() && m.lost(vol.Writer) &&
		len(d.v.InSync(vol)) > 0 && vol.Epoch < holdfast.MaxEpoch
}
