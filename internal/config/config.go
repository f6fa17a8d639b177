// Package config reads the configuration file of `holdfast serve`: YAML, one
// mapping, strict. A key that is not known is an error that names it and what
// was probably meant; every value is checked before anything is started.
// docs/protocol/config.md lists the keys.
package config

import (
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// Config is the configuration of one host. Load and Parse return it checked
// and with every default filled in.
type Config struct {
	Name    string `yaml:"name"`     // of the host; default: the machine's host name
	Site    string `yaml:"site"`     // optional
	Rack    string `yaml:"rack"`     // required: what is lost together
	Witness bool   `yaml:"witness"`  // a member of the control plane and nothing else
	DataDir string `yaml:"data_dir"` // default /var/lib/holdfast
	Socket  string `yaml:"socket"`   // API socket; default DATA_DIR/api.sock

	// Advertise is the address other hosts reach this one at, default
	// 127.0.0.1 (nothing listens openly until it is set).
	Advertise string `yaml:"advertise"`
	Listen    Listen `yaml:"listen"`
	KV        KV     `yaml:"kv"`

	Accelerator string `yaml:"accelerator"`  // auto (default), kvm or tcg
	PublishAddr string `yaml:"publish_addr"` // where published ports listen; default 127.0.0.1
	NBDTCP      string `yaml:"nbd_tcp"`      // host:port for NBD over TLS; default: none
	MapMemory   Size   `yaml:"map_memory"`   // for pages of block maps, over all disks; default 256 MiB
	ISCSI       string `yaml:"iscsi"`        // host:port of this host's iSCSI portal; default: none
	ScrubEvery  string `yaml:"scrub_every"`  // from one scrub of a disk to the next; default 7d; "never"
	ScrubRate   Size   `yaml:"scrub_rate"`   // bytes a second that a scrub of a disk reads at most; default 64 MiB
	RebuildRate Size   `yaml:"rebuild_rate"` // bytes a second that rebuilds move at most at a disk; default: no limit
	KeepAwake   string `yaml:"keep_awake"`   // processors, while initiators wait for each answer: auto (default) or never
	Upgrade     string `yaml:"upgrade"`      // where other programs come from: api (default) or from-disk, which takes none by the API
	KeyFile     string `yaml:"key_file"`     // with the cluster key for encrypted volumes; default: none
	Fetch       Fetch  `yaml:"fetch"`
	Traces      Traces `yaml:"traces"`
	Log         Log    `yaml:"log"`
}

// Fetch says from where images are fetched by URL; without it, by https from public
// addresses.
type Fetch struct {
	Private   []string `yaml:"private"`    // networks that are not public, ADDRESS/BITS
	PlainHTTP bool     `yaml:"plain_http"` // http, too
	CA        string   `yaml:"ca"`         // PEM file: authorities beside the system's
	MaxSize   Size     `yaml:"max_size"`   // of a file; default 256 GiB
}

// Networks are the networks of Private, of a checked configuration.
func (f Fetch) Networks() (out []netip.Prefix) {
	for _, text := range f.Private {
		if n, err := netip.ParsePrefix(text); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func (f Fetch) check() error {
	for _, text := range f.Private {
		n, err := netip.ParsePrefix(text)
		if err != nil || n != n.Masked() {
			return invalid("fetch.private: %q is no network; give such as 10.1.0.0/16, with zeros behind its bits", text)
		}
	}
	if f.CA != "" && !filepath.IsAbs(f.CA) {
		return invalid("fetch.ca %q: give an absolute path", f.CA)
	}
	return nil
}

// Listen are the addresses to listen on, host:port. Defaults: the advertised
// address with the ports 7440 (API), 7441 (transport), 7442 (etcd peer) and
// 7443 (etcd client). All of them demand certificates of the cluster.
type Listen struct {
	API        string `yaml:"api"`
	Transport  string `yaml:"transport"`
	EtcdPeer   string `yaml:"etcd_peer"`
	EtcdClient string `yaml:"etcd_client"`
}

// KV points to an external etcd cluster; without endpoints etcd is embedded.
type KV struct {
	Endpoints []string `yaml:"endpoints"` // https URLs
	CA        string   `yaml:"ca"`        // PEM file: the authority of the etcd's certificates
	Cert      string   `yaml:"cert"`      // PEM files: what this host shows the etcd
	Key       string   `yaml:"key"`
	Prefix    string   `yaml:"prefix"` // of all keys, ends with a slash or is empty
	// User is who this host is to an etcd with users, and PasswordFile the file that
	// its password is in; both empty: its certificate says who it is.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Traces says which OpenTelemetry collector is told of calls of the API and of
// fail-overs; without an endpoint, none.
type Traces struct {
	Endpoint   string   `yaml:"endpoint"`    // http or https URL, OTLP over HTTP
	CA         string   `yaml:"ca"`          // PEM file: authorities beside the system's
	HeaderFile string   `yaml:"header_file"` // file of mode 0600 with "Name: value" lines for every request
	Share      *float64 `yaml:"share"`       // of calls that are told, 0 to 1; default 1
}

func (t *Traces) check() error {
	if t.Endpoint == "" {
		if t.CA != "" || t.HeaderFile != "" || t.Share != nil {
			return invalid("traces: ca, header_file and share are of a collector; give its URL too (traces.endpoint), or none of them for no traces")
		}
		return nil
	}
	u, err := url.Parse(t.Endpoint)
	if err == nil && u.User != nil {
		return invalid("traces.endpoint %s: a name and password, where the collector needs them, stand in traces.header_file", u.Redacted())
	}
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return invalid("traces.endpoint: %q is not like https://collector:4318", t.Endpoint)
	}
	for _, f := range []struct{ key, v string }{{"traces.ca", t.CA}, {"traces.header_file", t.HeaderFile}} {
		if f.v != "" && !filepath.IsAbs(f.v) {
			return invalid("%s %q: give an absolute path", f.key, f.v)
		}
	}
	if t.CA != "" && u.Scheme != "https" {
		return invalid("traces.ca: %s is not asked for a certificate; give its https URL, or leave the authorities out", t.Endpoint)
	}
	if t.Share != nil && !(*t.Share >= 0 && *t.Share <= 1) {
		return invalid("traces.share: %v is not between 0 and 1, such as 0.1 for one call in ten", *t.Share)
	}
	return nil
}

// Log says what is logged to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info (default), warn, error
	Format string `yaml:"format"` // text (default) or json
}

// Default ports.
const (
	PortAPI        = 7440
	PortTransport  = 7441
	PortEtcdPeer   = 7442
	PortEtcdClient = 7443
	PortISCSI      = 3260 // of a lab's portals; elsewhere the configuration says
)

// The rate of a scrub, and the least that is taken for one.
const (
	DefaultScrubRate Size = 64 << 20
	MinScrubRate     Size = 1 << 20
)

// MinRebuildRate is the least that is taken for a bound on rebuilds.
const MinRebuildRate Size = 4 << 20

// Bounds on map_memory. Below the least, reading a volume of many TiB would
// fetch the same pages again and again.
const (
	DefaultMapMemory Size = 256 << 20
	MinMapMemory     Size = 16 << 20
)

const maxFile = 1 << 20

// Load reads and checks a file.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, holdfast.Errorf(holdfast.NotFound, "configuration: %w; write one, its keys are in docs/protocol/config.md", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, holdfast.Errorf(holdfast.IO, "configuration: %w", err)
	}
	host, _ := os.Hostname()
	c, err := Parse(b, host)
	if err != nil {
		return Config{}, holdfast.Errorf(holdfast.KindOf(err), "configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks the text of a file; hostname is the default name.
func Parse(b []byte, hostname string) (Config, error) {
	if len(b) > maxFile {
		return Config{}, invalid("it is larger than %d bytes; is it the right file?", maxFile)
	}
	var c Config
	if err := decode(b, &c); err != nil {
		return Config{}, err
	}
	c.fill(hostname)
	return c, c.check()
}

func invalid(format string, args ...any) error {
	return holdfast.Errorf(holdfast.Invalid, format, args...)
}

func (c *Config) fill(hostname string) {
	short, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&c.Name, short)
	def(&c.DataDir, "/var/lib/holdfast")
	def(&c.Socket, filepath.Join(c.DataDir, "api.sock"))
	def(&c.Advertise, "127.0.0.1")
	for p, port := range map[*string]int{&c.Listen.API: PortAPI, &c.Listen.Transport: PortTransport,
		&c.Listen.EtcdPeer: PortEtcdPeer, &c.Listen.EtcdClient: PortEtcdClient} {
		def(p, net.JoinHostPort(c.Advertise, strconv.Itoa(port)))
	}
	def(&c.Accelerator, "auto")
	def(&c.PublishAddr, "127.0.0.1")
	def(&c.Log.Level, "info")
	def(&c.Log.Format, "text")
	if c.MapMemory == 0 {
		c.MapMemory = DefaultMapMemory
	}
	def(&c.ScrubEvery, "7d")
	def(&c.KeepAwake, "auto")
	def(&c.Upgrade, "api")
	if c.ScrubRate == 0 {
		c.ScrubRate = DefaultScrubRate
	}
	if c.Traces.Endpoint != "" && c.Traces.Share == nil {
		all := 1.0
		c.Traces.Share = &all
	}
}

func (c *Config) check() error {
	if c.Rack == "" {
		return invalid("rack is missing: say which rack the host stands in, for example 'rack: a'; copies of data are kept in different racks")
	}
	for _, n := range []struct{ key, v string }{{"name", c.Name}, {"rack", c.Rack}, {"site", c.Site}} {
		if n.key == "site" && n.v == "" {
			continue
		}
		if err := holdfast.CheckName(n.key, n.v); err != nil {
			return err
		}
	}
	for _, p := range []struct{ key, v string }{{"data_dir", c.DataDir}, {"socket", c.Socket}} {
		if !filepath.IsAbs(p.v) || strings.ContainsRune(p.v, 0) {
			return invalid("%s %q: give an absolute path", p.key, p.v)
		}
	}
	if err := oneOf("accelerator", c.Accelerator, "auto", "kvm", "tcg"); err != nil {
		return err
	}
	if err := oneOf("keep_awake", c.KeepAwake, "auto", "never"); err != nil {
		return err
	}
	if err := oneOf("upgrade", c.Upgrade, "api", "from-disk"); err != nil {
		return err
	}
	if err := oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	if err := oneOf("log.format", c.Log.Format, "text", "json"); err != nil {
		return err
	}
	if err := c.MapMemory.CheckMapMemory("map_memory"); err != nil {
		return err
	}
	if _, err := ParsePeriod(c.ScrubEvery); err != nil {
		return invalid("scrub_every: %w", err)
	}
	if c.ScrubRate < MinScrubRate {
		return invalid("scrub_rate: %d bytes a second are too few to get through a disk; give at least %dMiB, or 'scrub_every: never'", c.ScrubRate, MinScrubRate>>20)
	}
	if c.RebuildRate != 0 && c.RebuildRate < MinRebuildRate {
		return invalid("rebuild_rate: with %d bytes a second volumes would stay without their copies for too long; give at least %dMiB, or leave it out: rebuilds make way for other work by themselves", c.RebuildRate, MinRebuildRate>>20)
	}
	if err := c.checkAddrs(); err != nil {
		return err
	}
	if err := c.Fetch.check(); err != nil {
		return err
	}
	if err := c.Traces.check(); err != nil {
		return err
	}
	if err := c.CheckWitness(); err != nil {
		return err
	}
	return c.CheckKV()
}

// CheckWitness refuses a witness that is told to do what one does not.
func (c Config) CheckWitness() error {
	if !c.Witness {
		return nil
	}
	for _, k := range []struct{ key, v string }{{"iscsi", c.ISCSI}, {"nbd_tcp", c.NBDTCP}, {"key_file", c.KeyFile}} {
		if k.v != "" {
			return invalid("%s is given and the host is a witness: one votes in the control plane and serves no data; take the key out, or run an ordinary host", k.key)
		}
	}
	if len(c.KV.Endpoints) > 0 {
		return invalid("kv.endpoints are given and the host is a witness: with an external control plane there is nothing for a witness to vote in")
	}
	return nil
}

// CheckMapMemory refuses too little, naming the key or flag that says so.
func (s Size) CheckMapMemory(key string) error {
	if s < MinMapMemory {
		return invalid("%s: %d bytes are too few; give at least %dMiB, or leave it out for %dMiB", key, s, MinMapMemory>>20, DefaultMapMemory>>20)
	}
	return nil
}

func oneOf(key, v string, allowed ...string) error {
	for _, a := range allowed {
		if v == a {
			return nil
		}
	}
	text := "use " + strings.Join(allowed, ", ")
	if near := nearest.Of(v, allowed); near != "" {
		text = "did you mean " + near + "? It can be " + strings.Join(allowed, ", ")
	}
	return invalid("%s %q: %s", key, v, text)
}

func (c *Config) checkAddrs() error {
	if strings.Contains(c.Advertise, "/") || strings.ContainsAny(c.Advertise, " \t\x00") {
		return invalid("advertise %q: give an address or a host name without port", c.Advertise)
	}
	if a, err := netip.ParseAddr(c.Advertise); err == nil && a.IsUnspecified() {
		return invalid("advertise %s: other hosts cannot call that; give this host's own address", c.Advertise)
	}
	if _, err := netip.ParseAddr(c.PublishAddr); err != nil {
		return invalid("publish_addr %q: give an IP address of this host; 127.0.0.1 keeps published ports to itself", c.PublishAddr)
	}
	seen := map[string]string{}
	for _, l := range []struct{ key, v string }{
		{"listen.api", c.Listen.API}, {"listen.transport", c.Listen.Transport},
		{"listen.etcd_peer", c.Listen.EtcdPeer}, {"listen.etcd_client", c.Listen.EtcdClient}, {"nbd_tcp", c.NBDTCP}, {"iscsi", c.ISCSI},
	} {
		if l.v == "" && (l.key == "nbd_tcp" || l.key == "iscsi") {
			continue
		}
		host, port, err := net.SplitHostPort(l.v)
		n, nerr := strconv.Atoi(port)
		if err != nil || nerr != nil || n < 1 || n > 65535 || host == "" {
			return invalid("%s %q: give address:port, for example %s:7440", l.key, l.v, c.Advertise)
		}
		if other, ok := seen[l.v]; ok {
			return invalid("%s and %s are both %s; each needs a port of its own", other, l.key, l.v)
		}
		seen[l.v] = l.key
	}
	return nil
}

// AdvertiseAddr returns the address under which others reach what listens at
// listen: its own host if that is one address, otherwise the advertised one.
func (c Config) AdvertiseAddr(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if a, err := netip.ParseAddr(host); err == nil && a.IsUnspecified() {
		host = c.Advertise
	}
	return net.JoinHostPort(host, port)
}

// Domain returns where the host stands.
func (c Config) Domain() holdfast.FaultDomain {
	return holdfast.FaultDomain{Site: c.Site, Rack: c.Rack}
}
