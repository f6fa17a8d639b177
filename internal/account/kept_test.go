package account

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// TestAccountsAreKeptAndRecovered: what package cluster mirrors, keeps and
// recovers has users and tokens among it, though it knows nothing of them, and
// no session.
func TestAccountsAreKeptAndRecovered(t *testing.T) {
	sc := founded(t)
	var text, session string
	self := cluster.Host{ID: holdfast.HostID{UUID: holdfast.UUID{1}}, Name: "a", Domain: holdfast.FaultDomain{Rack: "a"}, Addr: "127.0.0.1:1", CertKey: "k"}
	sc.do(0, func(s *Store) {
		c := cluster.Open(sc.kv[0], sc.clk[0], s.cfg.Log)
		defer c.Close()
		sc.ok(c.Init(cluster.Cluster{ID: holdfast.ClusterID{UUID: holdfast.UUID{2}}, Name: "field"}, self))
		var err error
		_, text, err = s.CreateToken(&Principal{Kind: "socket", Role: ClusterAdmin}, "t", Viewer, "", time.Hour)
		sc.ok(err)
		_, session, err = s.Login("ann", good, here)
		sc.ok(err)
		items, _, rev, err := cluster.ReadLasting(sc.kv[0].Range)
		sc.ok(err)
		plan, err := cluster.PlanRecovery(items, rev, cluster.Survivor{Self: self, Last: 1, Chance: func(uint32) uint32 { return 0 }})
		sc.ok(err)
		if len(plan.Bad) > 0 {
			t.Errorf("the recovery does not read %v", plan.Bad)
		}
		p := emptyPicture()
		for _, it := range plan.Items {
			if strings.HasPrefix(it.Key, root) {
				p.put(kv.Item{Key: it.Key, Value: it.Value, Mod: 1})
			}
		}
		s.mu.Lock()
		s.p = p
		s.mu.Unlock()
		_, err = s.Token(text, here)
		sc.ok(err)
		_, err = s.Session(session, here)
		sc.kind(err, holdfast.Denied)
		if u := p.users["ann"].val; u.Password == "" || u.Role != ClusterAdmin {
			t.Errorf("%+v", u)
		}
	})
}
