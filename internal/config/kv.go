package config

import (
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of what leads to an external etcd.
const (
	maxEndpoints = 16
	maxPrefix    = 64
	maxUser      = 128
)

// External reports whether the control plane is an etcd that somebody else runs.
func (k KV) External() bool { return len(k.Endpoints) > 0 }

// CheckKV refuses a way to an external etcd that cannot work, and completes the
// prefix.
func (c *Config) CheckKV() error {
	k := &c.KV
	if !k.External() {
		if k.CA != "" || k.Cert != "" || k.Key != "" || k.Prefix != "" || k.User != "" || k.PasswordFile != "" {
			return invalid("kv: ca, cert, key, prefix, user and password_file are for an external etcd; give its endpoints too (kv.endpoints, or serve --etcd), or none of them to have etcd built in")
		}
		return nil
	}
	if len(k.Endpoints) > maxEndpoints {
		return invalid("kv.endpoints: %d URLs: at most %d are allowed; an etcd has three or five members", len(k.Endpoints), maxEndpoints)
	}
	for _, e := range k.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Path != "" || !port(u.Port()) {
			return invalid("kv.endpoints: %q is not like https://etcd1:2379; only TLS is spoken, the cluster's records hold secrets", e)
		}
	}
	for _, f := range []struct{ key, flag, v, what string }{
		{"kv.ca", "--etcd-ca", k.CA, "the authority that issued the etcd's certificates"},
		{"kv.cert", "--etcd-cert", k.Cert, "a client certificate that the etcd accepts"},
		{"kv.key", "--etcd-key", k.Key, "the key of that certificate"},
	} {
		if f.v == "" {
			return invalid("%s is missing (or %s): an external etcd needs a PEM file with %s; who may read the records may enter the cluster", f.key, f.flag, f.what)
		}
		if !filepath.IsAbs(f.v) {
			return invalid("%s %q: give an absolute path", f.key, f.v)
		}
	}
	switch {
	case (k.User == "") != (k.PasswordFile == ""):
		return invalid("kv.user (--etcd-user) and kv.password_file (--etcd-password-file) go together: give both, or none if the certificate says who this host is")
	case len(k.User) > maxUser || strings.ContainsFunc(k.User, unicode.IsControl):
		return invalid("kv.user: a name of %d bytes: up to %d printable ones are allowed", len(k.User), maxUser)
	case k.PasswordFile != "" && !filepath.IsAbs(k.PasswordFile):
		return invalid("kv.password_file %q: give an absolute path", k.PasswordFile)
	}
	if k.Prefix != "" && !strings.HasSuffix(k.Prefix, "/") {
		k.Prefix += "/"
	}
	if len(k.Prefix) > maxPrefix || strings.HasPrefix(k.Prefix, "/") || strings.Contains(k.Prefix, "//") || strings.IndexFunc(k.Prefix, notInPrefix) >= 0 {
		return invalid("kv.prefix %q: give up to %d letters, digits, '-', '_', '.' and '/', for example site1/", k.Prefix, maxPrefix)
	}
	if c.Witness {
		return c.CheckWitness()
	}
	return nil
}

func notInPrefix(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
}

func port(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
