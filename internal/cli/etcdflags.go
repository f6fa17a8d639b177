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
	for to, v := range map[*string]string{&conf.KV.CA: kv.CA, &conf.KV.Cert: kv.Cert, &conf.KV.Key: kv.Key} {
		if v == "" {
			continue
		}
		path, err := filepath.Abs(v)
		if err != nil {
			return holdfast.Errorf(holdfast.Invalid, "%s: %w", v, err)
		}
		*to, changed = path, true
	}
	if kv.Prefix != "" {
		conf.KV.Prefix, changed = kv.Prefix, true
	}
	if !changed {
		return nil
	}
	return conf.CheckKV()
}
