package cluster

import (
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// FuzzPicture feeds the picture whatever may stand in the map: it must neither
// panic nor change the picture it starts from, and what it accepts must be
// writable again.
func FuzzPicture(f *testing.F) {
	id := "11111111-1111-4111-8111-111111111111"
	f.Add("volume/"+id, []byte(`{"id":"`+id+`","name":"v","blocks":1,"copies":1,"min":1,"durability":"flush"}`))
	f.Add("volume/"+id, []byte(`{"id":"`+id+`","name":"v","blocks":1,"copies":1,"min":1,"durability":"flush","limits":{"iops":500,"mbps":20,"burst_ms":2000}}`))
	f.Add("vm/"+id, []byte(`{"id":"`+id+`","name":"m","cpus":1,"memory_mib":1,"power":"on","isolation":"pause"}`))
	f.Add("host/"+id, []byte(`{"id":"`+id+`","name":"h","domain":{"rack":"r"}}`))
	f.Add("pool/"+id, []byte(`{"id":"`+id+`","name":"fast","tier":"ram","copies":2}`))
	f.Add("export/"+id, []byte(`{"id":"`+id+`","name":"e","target":"iqn.2026-11.x:e","units":[{"lun":0,"volume":"`+id+`"}],"initiators":[{"name":"*"}]}`))
	f.Add("serving/"+id, []byte(`{"export":"`+id+`","host":"`+id+`","lease":7}`))
	f.Add("cluster", []byte(`{"id":"`+id+`","name":"c","format":2}`))
	f.Add("leader", []byte(`{"host":"`+id+`","lease":7}`))
	f.Add("volume/"+id+"/snapshots/000001", []byte(`{"volume":"`+id+`","snapshots":[{"id":"`+id+`","name":"s","lsn":7}]}`))
	f.Add("join/"+id, []byte(`null`))
	f.Add("alive/", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		old := emptyState()
		it := kv.Item{Key: root + key, Value: value, Mod: 5}
		s, _ := repaint(old, []kv.Item{it}, 5)
		s2, err := advance(s, []kv.Event{{Item: kv.Item{Key: it.Key, Value: value, Mod: 6}}})
		if err == nil {
			rewrite(t, s2)
		}
		s3, _ := advance(s2, []kv.Event{{Item: kv.Item{Key: it.Key, Mod: 7}, Deleted: true}})
		if n := len(s3.Volumes) + len(s3.Pools) + len(s3.VMs) + len(s3.Hosts) + len(s3.Alive) + len(s3.Disks) + len(s3.Machines) + len(s3.Incidents) + len(s3.Exports) + len(s3.Serving) + len(s3.Bad) + len(s3.pages); n != 0 {
			t.Errorf("%d records are left after the delete", n)
		}
		if len(old.Volumes)+len(old.VMs)+len(old.Hosts)+len(old.Bad) != 0 {
			t.Error("the old picture has changed")
		}
	})
}

func rewrite(t *testing.T, s *State) {
	again(t, volumeKind(), s.Volumes)
	again(t, vmKind(), s.VMs)
	again(t, poolKind(), s.Pools)
	again(t, hostKind(), s.Hosts)
	again(t, aliveKind(), s.Alive)
	again(t, diskKind(), s.Disks)
	again(t, machineKind(), s.Machines)
	again(t, incidentKind(), s.Incidents)
	again(t, exportKind(), s.Exports)
	again(t, servingKind(), s.Serving)
}

func again[K comparable, T any](t *testing.T, k kind[T], m map[K]Versioned[T]) {
	for _, v := range m {
		b, err := encode(k, &v.Val)
		if err != nil {
			t.Errorf("%s: read but not writable: %v", k.what, err)
			continue
		}
		if _, err := decode(k, k.key(k.id(&v.Val)), b); err != nil {
			t.Errorf("%s: written but not readable: %v", k.what, err)
		}
	}
}
