package baddays

import (
	"log/slog"
	"net"
	"path/filepath"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/lab"
)

// records opens the control plane's records with the credentials of a host: for
// what no command does.
func (p *player) records(h lab.Host) *etcd.Store {
	p.t.Helper()
	creds, err := auth.LoadCredentials(filepath.Join(h.Data(), "pki"), "host")
	p.must(err)
	st, err := etcd.Dial(etcd.DialConfig{Endpoints: []string{"https://" + net.JoinHostPort(h.Addr, strconv.Itoa(config.PortEtcdClient))},
		TLS: auth.ClientTLS(creds, nil), Log: slog.New(slog.DiscardHandler)})
	p.must(err)
	p.t.Cleanup(func() { st.Close() })
	return st
}

// emptied makes a volume's record one that names no copy.
func (p *player) emptied(volume string) {
	p.t.Helper()
	c := cluster.Open(p.records(p.l.Hosts[0]), clock.System{}, slog.New(slog.DiscardHandler))
	defer c.Close()
	st, err := c.Refresh()
	p.must(err)
	u, err := holdfast.ParseUUID(p.named(volume).ID)
	p.must(err)
	v := st.Volumes[holdfast.VolumeID{UUID: u}]
	v.Val.InSync, v.Val.Others = nil, nil
	tx := c.Begin()
	tx.PutVolume(v.Val, v.Mod)
	_, err = tx.Commit()
	p.must(err)
}

// unreadable puts a record beside the others that no version can read, or takes it
// away.
func (p *player) unreadable(put bool) {
	p.t.Helper()
	const key = "holdfast/2/volume/ffffffff-ffff-4fff-bfff-ffffffffffff"
	st := p.records(p.l.Hosts[0])
	items, _, err := st.Range(key)
	p.must(err)
	op, mod := kv.Op{Key: key, Value: []byte(`{"format":29991231}`)}, kv.Rev(0)
	if !put {
		op = kv.Op{Key: key, Delete: true}
	}
	for _, it := range items {
		mod = it.Mod
	}
	_, err = st.Commit([]kv.Cond{{Key: key, Mod: mod}}, []kv.Op{op})
	p.must(err)
}
