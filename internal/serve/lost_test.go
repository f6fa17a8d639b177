package serve

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// The host that made the cluster comes back without its part of the control
// plane. It must not begin an empty one under the same identity, in which no
// host is a member.
func TestALostControlPlaneIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"", "member/wal/*"} {
		b := newBox(t, 31, "a")
		if _, err := b.api.InitCluster(context.Background(), v1.ClusterInit{Name: "field"}); err != nil {
			t.Fatal(err)
		}
		b.stop()
		paths, err := filepath.Glob(filepath.Join(b.conf.DataDir, "etcd", lost))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, p := range paths {
			if err := os.RemoveAll(p); err != nil {
				t.Fatal(err)
			}
		}
		h, err := Start(Options{Config: b.conf, Version: "test", Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			if _, werr := h.member(); !holdfast.IsKind(werr, holdfast.Damaged) {
				t.Errorf("without etcd/%s it works: %v", lost, werr)
			}
			h.Stop() // it has kept the records and waits for 'cluster recover'
		} else if !holdfast.IsKind(err, holdfast.Damaged) {
			t.Errorf("without etcd/%s: %v, want kind damaged", lost, err)
		}
	}
}
