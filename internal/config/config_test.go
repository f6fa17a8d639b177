package config

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestASmallFileIsEnough(t *testing.T) {
	c, err := Parse([]byte("rack: a\n"), "Box7.example.org")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "box7" || c.Socket != "/var/lib/holdfast/api.sock" || c.Listen.API != "127.0.0.1:7440" ||
		c.Listen.EtcdClient != "127.0.0.1:7443" || c.Accelerator != "auto" || c.PublishAddr != "127.0.0.1" || c.NBDTCP != "" {
		t.Fatalf("defaults: %+v", c)
	}
}

func TestAnAdvertisedAddressIsWhatIsListenedOn(t *testing.T) {
	c, err := Parse([]byte("rack: a\nname: h\nadvertise: 10.1.2.3\nlisten: {transport: '0.0.0.0:9000'}\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.API != "10.1.2.3:7440" || c.Listen.Transport != "0.0.0.0:9000" {
		t.Fatalf("%+v", c.Listen)
	}
	if got := c.AdvertiseAddr(c.Listen.Transport); got != "10.1.2.3:9000" {
		t.Fatalf("others are told %s", got)
	}
}

func TestMistakesAreNamedAndTaught(t *testing.T) {
	for _, c := range []struct{ text, say string }{
		{"rac: a", `unknown key "rac"; did you mean "rack"?`},
		{"rack: a\nlisten:\n  apu: 1.2.3.4:5", `line 3: unknown key "listen.apu"; did you mean "listen.api"?`},
		{"rack: a\nsomething_else: 1", "known here are name, site, rack"},
		{"name: h", "rack is missing"},
		{"rack: a\nrack: b", "given twice"},
		{"rack: A b", "use a-z, 0-9 and '-'"},
		{"rack: [a]", "rack must be one value"},
		{"rack: a\nlisten: x", "listen must be a mapping"},
		{"- rack", "must be a mapping"},
		{"rack: a\n---\nrack: b", "more than one document"},
		{"rack: &x a\nname: *x", "must be one value"},
		{"rack: 'a", "not YAML"},
		{"rack: a\naccelerator: kvn", "did you mean kvm?"},
		{"rack: a\nkeep_awake: newer", "did you mean never?"},
		{"rack: a\ndata_dir: here", "absolute path"},
		{"rack: a\nlisten: {api: '127.0.0.1'}", "give address:port"},
		{"rack: a\nlisten: {api: '127.0.0.1:99999'}", "give address:port"},
		{"rack: a\nlisten: {api: '127.0.0.1:1', transport: '127.0.0.1:1'}", "each needs a port of its own"},
		{"rack: a\nadvertise: 0.0.0.0", "own address"},
		{"rack: a\npublish_addr: everywhere", "IP address"},
		{"rack: a\nkv: {endpoints: ['http://x:2379']}", "only TLS"},
		{"rack: a\nkv: {cert: /x}", "endpoints too"},
		{"rack: a\nkv: {prefix: x}", "endpoints too"},
		{"rack: a\nkv: {endpoints: ['https://x']}", "only TLS"},
		{"rack: a\nkv: {endpoints: ['https://x:1'], ca: /x}", "kv.cert is missing (or --etcd-cert)"},
		{"rack: a\nkv: {endpoints: ['https://x:1'], ca: x, cert: /x, key: /x}", "absolute path"},
		{"rack: a\nkv: {endpoints: ['https://x:1'], ca: /x, cert: /x, key: /x, prefix: '/a'}", "site1/"},
		{"rack: a\nkv: {endpoints: ['https://x:1'], ca: /x, cert: /x, key: /x, prefix: 'a//b'}", "site1/"},
		{"rack: a\nwitness: true\nkv: {endpoints: ['https://x:1'], ca: /x, cert: /x, key: /x}", "nothing for a witness"},
		{"rack: a\nfetch: {privat: []}", `did you mean "fetch.private"?`},
		{"rack: a\nfetch: {private: ['10.0.0.1']}", "10.1.0.0/16"},
		{"rack: a\nfetch: {private: ['10.0.0.1/8']}", "zeros behind its bits"},
		{"rack: a\nfetch: {ca: ca.pem}", "absolute path"},
		{"rack: a\ntraces: {share: 0.5}", "give its URL too"},
		{"rack: a\ntraces: {endpoint: 'collector:4318'}", "is not like https://collector:4318"},
		{"rack: a\ntraces: {endpoint: 'https://me:secret@collector'}", "stand in traces.header_file"},
		{"rack: a\ntraces: {endpoint: 'https://c', header_file: h}", "absolute path"},
		{"rack: a\ntraces: {endpoint: 'http://c', ca: /ca.pem}", "is not asked for a certificate"},
		{"rack: a\ntraces: {endpoint: 'https://c', share: 1.5}", "between 0 and 1"},
		{"rack: a\ntraces: {endpoint: 'https://c', share: .nan}", "between 0 and 1"},
		{strings.Repeat("#", maxFile+1), "right file"},
	} {
		_, err := Parse([]byte(c.text), "host")
		if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%.60q: got %v, want it to say %q", c.text, err, c.say)
		}
	}
}

func TestNetworksToFetchFrom(t *testing.T) {
	c, err := Parse([]byte("rack: a\nfetch: {private: ['10.1.0.0/16', 'fd12::/32'], max_size: 1TiB}"), "host")
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Fetch.Networks(); len(n) != 2 || n[0].String() != "10.1.0.0/16" || n[1].String() != "fd12::/32" || c.Fetch.MaxSize != 1<<40 {
		t.Errorf("%v, %d", n, c.Fetch.MaxSize)
	}
}

func TestAMissingFileIsSaid(t *testing.T) {
	if _, err := Load(t.TempDir() + "/none.yaml"); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Fatalf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("rack: a\nlisten: {api: '127.0.0.1:1'}\nkv:\n  endpoints: [https://x:1]\n  ca: /a\n  cert: /b\n  key: /c\n  prefix: d\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("{? {}: b}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b, "host")
		if err != nil && holdfast.KindOf(err) != holdfast.Invalid {
			t.Fatalf("kind %v of %v", holdfast.KindOf(err), err)
		}
		if err == nil && (c.Rack == "" || c.Listen.API == "" || c.check() != nil) {
			t.Fatalf("accepted an incomplete configuration: %+v", c)
		}
	})
}
