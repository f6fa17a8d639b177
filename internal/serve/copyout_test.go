package serve

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func TestASnapshotOfAnExportHasANameThatIsTaken(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 37, 25, 1000, time.FixedZone("east", 3600))
	name := exportName(now)
	if err := holdfast.CheckName("snapshot", name); err != nil || name != "export-20261122-093725-000001" {
		t.Errorf("%s: %v", name, err)
	}
}
