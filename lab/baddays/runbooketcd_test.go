package baddays

import (
	"os/exec"
	"regexp"
	"strings"
)

// etcdQuota is how many bytes an external etcd may keep in a story, which fills it:
// beside what it has at first, with room for the records of a cluster.
const etcdQuota = 48 << 20

// Shares of its quota, in percent, that are used of an etcd that fills up, and more
// than it takes.
const (
	etcdAlmost = 85
	etcdBeyond = 200
)

// etcdIs brings an external etcd into a state.
func (p *player) etcdIs(what string) {
	p.t.Helper()
	switch what {
	case "away":
		p.etcd.End()
	case "back":
		p.etcd.Begin()
	case "member-away":
		p.etcd.EndOne(2)
	case "member-back":
		p.etcd.BeginOne(2)
	case "filling":
		p.etcd.Fill(etcdAlmost)
	case "full":
		p.etcd.Fill(etcdBeyond)
	default:
		p.t.Fatalf("an etcd is not %q", what)
	}
}

// etcdPairs are what pages say of an external etcd, and what it is in the lab.
func (p *player) etcdPairs() []string {
	host := func(i int) string { return strings.TrimPrefix(p.etcd.URLs[i], "https://") }
	return []string{"etcd1:2379", host(0), "etcd2:2379", host(1), "etcd3:2379", host(2),
		"ca.pem", p.etcd.CA, "host.pem", p.etcd.Cert, "host.key", p.etcd.Key, "REVISION", p.history}
}

var etcdRevision = regexp.MustCompile(`"revision":([0-9]+)`)

// etcdctl runs etcd's own program, for all members where the page names none.
func (p *player) etcdctl(c typed, line string) (string, int) {
	p.t.Helper()
	if !strings.Contains(line, "--endpoints") {
		line += " --endpoints " + strings.Join(p.etcd.URLs, ",") + " --cacert " + p.etcd.CA + " --cert " + p.etcd.Cert + " --key " + p.etcd.Key
	}
	out, code := p.output(c, "", exec.Command("sh", "-c", line))
	if m := etcdRevision.FindStringSubmatch(out); m != nil {
		p.history = m[1]
	}
	return out, code
}
