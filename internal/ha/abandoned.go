package ha

import (
	"fmt"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// abandoned deletes images whose import can never be completed: the host that
// was importing lives a later life, or is no member any more. One that is away
// is waited for: it may only be cut off.
func (m *Machine) abandoned(d *draft) {
	for _, vol := range d.v.Volumes {
		if !vol.Image || vol.Sealed || vol.Importer.IsZero() || d.touched[vol.ID] {
			continue
		}
		h := d.v.Host(vol.Importer)
		why := "was restarted while it imported it"
		switch {
		case h == nil:
			why = "imported it and is no member any more"
		case !h.Up() || h.Alive.Boot == vol.ImporterBoot:
			continue
		}
		mod := d.v.State.Volumes[vol.ID].Mod
		vol.Deleted, vol.Keys = true, nil
		d.commit(Change{What: "abandoned", Text: fmt.Sprintf("image %s: host %s %s", vol.Name, d.v.HostName(vol.Importer), why),
			Volumes: []cluster.Versioned[cluster.Volume]{{Mod: mod, Val: vol}}})
	}
}
