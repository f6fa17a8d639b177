package serve

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

func hostOf(n byte) holdfast.HostID { return holdfast.HostID{UUID: holdfast.UUID{n}} }

// threeRacks is a cluster of hosts 1, 2 and 3 in racks a, b and c, and a volume
// with good copies on 2 and 3 that nobody writes.
func threeRacks() (*cluster.State, cluster.Export) {
	v := cluster.Volume{ID: holdfast.VolumeID{UUID: holdfast.UUID{9}}, InSync: []cluster.Replica{{Host: hostOf(2)}, {Host: hostOf(3)}}}
	st := &cluster.State{Hosts: map[holdfast.HostID]cluster.Versioned[cluster.Host]{}, Alive: map[holdfast.HostID]cluster.Versioned[cluster.Alive]{},
		Volumes: map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{v.ID: {Val: v}}}
	for n := byte(1); n <= 3; n++ {
		st.Hosts[hostOf(n)] = cluster.Versioned[cluster.Host]{Val: cluster.Host{ID: hostOf(n), Name: string('a' + n - 1),
			Domain: holdfast.FaultDomain{Rack: string('a' + n - 1)}, Portal: "127.0.0.1:3260", PortalGroup: uint16(n)}}
		st.Alive[hostOf(n)] = cluster.Versioned[cluster.Alive]{}
	}
	return st, cluster.Export{Name: "db", Target: "iqn.x:db", Units: []cluster.Unit{{Volume: v.ID}}}
}

func TestWhoIsToServeATarget(t *testing.T) {
	drain := func(st *cluster.State, n byte) {
		h := st.Hosts[hostOf(n)]
		h.Val.Drained = true
		st.Hosts[hostOf(n)] = h
	}
	writer := func(st *cluster.State, e cluster.Export, n byte) {
		v := st.Volumes[e.Units[0].Volume]
		v.Val.Writer = hostOf(n)
		st.Volumes[e.Units[0].Volume] = v
	}
	for what, c := range map[string]struct {
		change     func(*cluster.State, cluster.Export)
		away       byte
		self, want byte
	}{
		"a host with a copy":                      {self: 1, want: 2},
		"this host, if it has one":                {self: 3, want: 3},
		"the writer":                              {func(st *cluster.State, e cluster.Export) { writer(st, e, 1) }, 0, 3, 1},
		"a survivor, if the writer is lost":       {func(st *cluster.State, e cluster.Export) { writer(st, e, 3); delete(st.Alive, hostOf(3)) }, 0, 1, 2},
		"not one that is drained":                 {func(st *cluster.State, e cluster.Export) { drain(st, 2) }, 0, 1, 3},
		"not the drained writer":                  {func(st *cluster.State, e cluster.Export) { writer(st, e, 2); drain(st, 2) }, 0, 2, 3},
		"not one that did not answer":             {nil, 2, 1, 3},
		"this host, if no other has a good copy":  {func(st *cluster.State, e cluster.Export) { delete(st.Alive, hostOf(2)); delete(st.Alive, hostOf(3)) }, 0, 1, 1},
		"the drained one, if there is no other":   {func(st *cluster.State, e cluster.Export) { drain(st, 2); delete(st.Alive, hostOf(3)) }, 0, 2, 2},
		"the other copy, if this host is drained": {func(st *cluster.State, e cluster.Export) { drain(st, 3) }, 0, 3, 2},
	} {
		st, e := threeRacks()
		if c.change != nil {
			c.change(st, e)
		}
		if got := bestHost(st, e, hostOf(c.self), func(h holdfast.HostID) bool { return h == hostOf(c.away) }); got != hostOf(c.want) {
			t.Errorf("%s: host %d, want %d", what, got.UUID[0], c.want)
		}
	}
}

func TestPortGroupsFollowTheRacks(t *testing.T) {
	st, e := threeRacks()
	delete(st.Alive, hostOf(3))
	got := portalGroups(st, hostOf(2), e.Target)
	want := []byte{scsi.AccessNonOptimized, scsi.AccessOptimized, scsi.AccessUnavailable}
	for i, g := range got {
		if g.ID != uint16(i+1) || g.State != want[i] || g.Ports[0].ID != g.ID {
			t.Errorf("group %+v, want state %d", g, want[i])
		}
	}
	if len(got) != 3 || got[1].Ports[0].Name != "iqn.x:db,t,0x0002" {
		t.Errorf("%+v", got)
	}
}

// TestTheOptimizedPathOfADrainedHost leads to where the volume is written now.
func TestTheOptimizedPathOfADrainedHost(t *testing.T) {
	st, e := threeRacks()
	v := st.Volumes[e.Units[0].Volume]
	v.Val.Writer = hostOf(3)
	st.Volumes[e.Units[0].Volume] = v
	if got := nearest(st, e, hostOf(2)); got != hostOf(2) {
		t.Errorf("the path is optimized at host %d, which does not serve the target", got.UUID[0])
	}
	h := st.Hosts[hostOf(2)]
	h.Val.Drained = true
	st.Hosts[hostOf(2)] = h
	if got := nearest(st, e, hostOf(2)); got != hostOf(3) {
		t.Errorf("the path is optimized at host %d, want 3", got.UUID[0])
	}
	delete(st.Alive, hostOf(3))
	if got := nearest(st, e, hostOf(2)); got != hostOf(2) {
		t.Errorf("the path is optimized at host %d, which is lost", got.UUID[0])
	}
}

func TestARackHasOnePortalGroup(t *testing.T) {
	st, _ := threeRacks()
	new := func(rack string) cluster.Host {
		return cluster.Host{ID: hostOf(9), Domain: holdfast.FaultDomain{Rack: rack}}
	}
	if g := groupFor(st, new("b")); g != 2 {
		t.Errorf("a second host of rack b is in group %d, want 2", g)
	}
	if g := groupFor(st, new("d")); g != 4 {
		t.Errorf("the host of a new rack is in group %d, want 4", g)
	}
	delete(st.Hosts, hostOf(1))
	if g := groupFor(st, new("d")); g != 1 {
		t.Errorf("the group that is free: %d, want 1", g)
	}
}
