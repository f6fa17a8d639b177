package serve

import (
	"crypto/x509"
	"os"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
)

// fetchPolicy says from where this host fetches images. Kinds: NotFound, Invalid, of
// the file with authorities.
func fetchPolicy(c config.Fetch) (fetch.Policy, error) {
	p := fetch.Policy{Private: c.Networks(), PlainHTTP: c.PlainHTTP, MaxSize: int64(c.MaxSize)}
	if c.CA == "" {
		return p, nil
	}
	b, err := os.ReadFile(c.CA)
	if err != nil {
		return p, holdfast.Errorf(holdfast.NotFound, "fetch.ca: %w", err)
	}
	if p.Roots, err = x509.SystemCertPool(); err != nil {
		p.Roots = x509.NewCertPool()
	}
	if !p.Roots.AppendCertsFromPEM(b) {
		return p, holdfast.Errorf(holdfast.Invalid, "fetch.ca: there is no certificate in %s; give PEM", c.CA)
	}
	return p, nil
}
