package cli

import (
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

// overrideKV puts what the flags say of an external etcd in place of what the
// configuration says. Files may be named from the working directory.
func overrideKV(conf *config.Config, kv config.KV) error {
	changed := false
	if len(kv.Endpoints) > 0 {
		conf.KV.Endpoints, changed = kv.Endpoints, true
	}
	for to, v := range map[*string]string{&conf.KV.CA: kv.CA, &conf.KV.Cert: kv.Cert, &conf.KV.Key: kv.Key, &conf.KV.PasswordFile: kv.PasswordFile} {
		if v == "" {
			continue
		}
		path, err := filepath.Abs(v)
		if err != nil {
			return holdfast.Errorf(holdfast.Invalid, "%s: %w", v, err)
		}
		*to, changed = path, true
	}
	for to, v := range map[*string]string{&conf.KV.Prefix: kv.Prefix, &conf.KV.User: kv.User} {
		if v != "" {
			*to, changed = v, true
		}
	}
	if !changed {
		return nil
	}
	return conf.CheckKV()
}
