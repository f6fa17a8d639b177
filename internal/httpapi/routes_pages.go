package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/web"
)

const pagesPath = "/v1/pages"

// pages are those of the cluster, and what this host shows of them.
func (s *Server) pages() (*web.Store, *web.Page, error) {
	if s.o.Pages == nil {
		return nil, nil, holdfast.Errorf(holdfast.Unavailable, "this host has no names for its pages")
	}
	return s.o.Pages()
}

// certificateFile is a file that phones and computers install.
type certificateFile struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (s *Server) pagesRoutes() {
	act(s, s.operation("GET", pagesPath, "pages-show", "The names of the cluster's pages, and the authority to trust for them", 200), func(ctx context.Context, _ *none) (v1.Pages, error) {
		_, p, err := s.pages()
		if err != nil {
			return v1.Pages{}, err
		}
		return renderPages(ctx, p), nil
	})
	op := s.operation("GET", pagesPath+"/authority", "pages-authority", "The certificate of that authority, to be installed on a phone or computer", 200)
	op.Responses = map[string]*huma.Response{"200": {Description: "DER", Content: map[string]*huma.MediaType{"application/x-x509-ca-cert": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}}
	huma.Register(s.api, op, func(context.Context, *none) (*certificateFile, error) {
		_, p, err := s.pages()
		if err != nil {
			return nil, fail(err)
		}
		return &certificateFile{"application/x-x509-ca-cert", `attachment; filename="` + p.Names()[0] + `.crt"`, p.CA()}, nil
	})
	act(s, s.operation("PUT", pagesPath, "pages-set", "Give the cluster's pages names; where the authority may not vouch for one of them, there is another, which people trust anew", 200), func(ctx context.Context, in *request[v1.PagesSpec]) (v1.Pages, error) {
		st, _, err := s.pages()
		if err != nil {
			return v1.Pages{}, err
		}
		r, err := st.Set(in.Body.Names, in.Body.NewAuthority, tried(ctx))
		if err != nil {
			return v1.Pages{}, err
		}
		p, err := r.Page(st.Clock.Wall(), st.Rand)
		if err != nil {
			return v1.Pages{}, err
		}
		if have, err := st.Site(); err == nil {
			p = p.With(have)
		}
		return renderPages(ctx, p), nil
	})
	act(s, s.operation("PUT", pagesPath+"/site", "pages-site-set", "Have the pages show a certificate that the site has from elsewhere, for names of its own", 200), func(ctx context.Context, in *request[v1.PagesSite]) (v1.Pages, error) {
		st, p, err := s.pages()
		if err != nil {
			return v1.Pages{}, err
		}
		site, err := web.NewSite([]byte(in.Body.Certificate), []byte(in.Body.Key), st.Clock.Wall())
		if err != nil {
			return v1.Pages{}, err
		}
		if err := st.SetSite(site, tried(ctx)); err != nil {
			return v1.Pages{}, err
		}
		return renderPages(ctx, p.With(site)), nil
	})
	act(s, s.operation("DELETE", pagesPath+"/site", "pages-site-delete", "Have the pages show the site's own certificate no more", 204), func(ctx context.Context, _ *none) (none, error) {
		st, _, err := s.pages()
		if err != nil {
			return none{}, err
		}
		have, err := st.Site()
		if err == nil && have == nil {
			err = holdfast.Errorf(holdfast.NotFound, "the pages have no certificate of the site's own")
		}
		if err == nil || holdfast.IsKind(err, holdfast.Corrupt) { // which goes, too
			err = st.SetSite(nil, tried(ctx))
		}
		return none{}, err
	})
}

func renderPages(ctx context.Context, p *web.Page) v1.Pages {
	_, named := named(ctx, p)
	out := v1.Pages{Names: p.Names(), Named: named, Authority: v1.PagesAuthority{SHA256: fingerprint(p.Fingerprint()), Until: p.Until(),
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.CA()}))}}
	if s := p.Site(); s != nil {
		out.Site = &v1.PagesCertificate{Names: s.Names(), Issuer: s.Issuer(), SHA256: fingerprint(s.Fingerprint()), From: s.From(), Until: s.Until()}
	}
	return out
}

// fingerprint is a SHA-256 as browsers and phones show it.
func fingerprint(sum [sha256.Size]byte) string {
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	var parts []string
	for i := 0; i < len(text); i += 2 {
		parts = append(parts, text[i:i+2])
	}
	return strings.Join(parts, ":")
}

// named is by which of the pages' names the caller has come.
func named(ctx context.Context, p *web.Page) (name string, ok bool) {
	c, _ := ctx.Value(callerKey{}).(caller)
	u, err := pageAddress(c.host)
	if err != nil || !p.Has(u) {
		return "", false
	}
	return u, true
}
