package health

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// control says what two racks are short of.
func (b *board) control(p placement.Plan) {
	if !p.WantsWitness {
		return
	}
	var without []string
	for _, l := range p.Racks {
		if l.Control != "" {
			without = append(without, "rack "+l.Name)
		}
	}
	if len(without) == 2 {
		without = []string{"either rack"}
	}
	if len(without) > 0 {
		b.cause("witness-missing", Info, fmt.Sprintf("two racks and no witness: without %s the other keeps its data and nobody may start VMs there; "+
			"any small computer in a place of its own can be the witness: run 'holdfast serve --witness' on it and join it", without[0]), time.Time{})
	}
}
