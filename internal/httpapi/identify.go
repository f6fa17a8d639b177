package httpapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/ui"
)

const (
	sessionCookie = "holdfast_session"
	// ownHeader is what no form and no page of another origin can send.
	ownHeader = "X-Holdfast-Request"
	bearer    = "Bearer "
)

type callerKey struct{}

// caller is where a request comes from.
type caller struct {
	who  *account.Principal
	from string // address
	host string // by which name the caller knows this host, with a port; "": by a socket
}

// principal is who makes a request; nil: nobody that is known.
func principal(ctx context.Context) *account.Principal {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.who
}

// addressFrom is where a request comes from.
func addressFrom(ctx context.Context) string {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c.from
}

func as(r *http.Request, p *account.Principal, from, host string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{p, from, host}))
}

// trusted serves whoever may open the host's socket: its owner, who may do
// everything.
func trusted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, as(r, &account.Principal{Kind: "socket", Role: account.ClusterAdmin, From: "socket"}, "socket", ""))
	})
}

// identified finds out who makes a request over TLS: by what the request carries,
// which must be good then, or else by the certificate of the connection.
func (s *Server) identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		if err := sameOrigin(r); err != nil {
			writeProblem(w, err)
			return
		}
		who, err := s.identify(r)
		if err != nil {
			writeUnknown(w, err)
			return
		}
		if who != nil && who.Session != nil && changes(r.Method) && r.Header.Get(ownHeader) != "1" {
			writeProblem(w, holdfast.Errorf(holdfast.Denied, "a request that changes something and rests on a session carries the header %s: 1", ownHeader))
			return
		}
		next.ServeHTTP(w, as(r, who, addressOf(r), r.Host))
	})
}

// identify returns nil if the request and its connection say nothing.
func (s *Server) identify(r *http.Request) (*account.Principal, error) {
	from := addressOf(r)
	if text := r.Header.Get("Authorization"); text != "" {
		secret, ok := strings.CutPrefix(text, bearer)
		if !ok || len(r.Header.Values("Authorization")) > 1 {
			return nil, holdfast.Errorf(holdfast.Denied, "the header Authorization is not '%s%s…', a token", bearer, account.TokenPrefix)
		}
		a, err := s.accounts()
		if err != nil {
			return nil, err
		}
		return a.Token(secret, from)
	}
	var peer *account.Principal
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && s.o.Peer != nil {
		p, err := s.o.Peer(*r.TLS)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Denied, "not allowed: %w; use the admin certificate that 'holdfast cluster init' wrote", err)
		}
		p.From, peer = from, p
	}
	c, err := r.Cookie(sessionCookie)
	if err != nil || peer != nil || isPublic(r) {
		return peer, nil
	}
	a, err := s.accounts()
	if err != nil {
		return nil, err
	}
	return a.Session(c.Value, from)
}

func (s *Server) accounts() (*account.Store, error) {
	if s.o.Accounts == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host has no accounts")
	}
	return s.o.Accounts()
}

func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// sameOrigin refuses what a browser says that another site's page has sent. A
// certificate of a browser is sent with such a request as well.
func sameOrigin(r *http.Request) error {
	if !changes(r.Method) {
		return nil
	}
	site := r.Header.Get("Sec-Fetch-Site")
	ok := site == "" || site == "same-origin" || site == "none"
	if o := r.Header.Get("Origin"); o != "" {
		u, err := url.Parse(o)
		ok = ok && err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host)
	}
	if !ok {
		return holdfast.Errorf(holdfast.Denied, "the request was sent by a page of another site")
	}
	return nil
}

// isPublic is what is served to everybody: the ways in, a probe, and the files of
// the web UI, in which there is nothing of the cluster.
func isPublic(r *http.Request) bool {
	p := r.URL.Path
	switch r.Method {
	case http.MethodPost:
		return p == joinPath || p == "/v1/login" || p == "/v1/setup" || p == oidcPath+"/begin" || p == oidcPath+"/finish" ||
			p == passkeyPath+"/begin" || p == passkeyPath
	case http.MethodGet:
		return p == "/healthz" || p == "/v1/login" || p == pagesPath || p == pagesPath+"/authority" || ui.Public(r)
	}
	return ui.Public(r)
}

// permitted lets a request through to what its principal may.
func (s *Server) permitted(router chi.Routes) func(http.Handler) http.Handler {
	table := access()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who := principal(r.Context())
			op, params := s.operationAt(router, r)
			need, listed := table[op]
			switch {
			case op == "" && who != nil: // the description, which has no operation itself, or nothing
			case listed && who.May(need) && standing(op):
				s.whileAllowed(need, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.record(next, w, r, op, params) }), w, r)
				return
			case listed && who.May(need):
			case who == nil:
				writeUnknown(w, holdfast.Errorf(holdfast.Denied, "nobody is served without an account: log in, or give a token or a certificate"))
				return
			default:
				refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, notAllowed(who, op)) })
				s.record(refuse, w, r, op, params)
				return
			}
			s.record(next, w, r, op, params)
		})
	}
}

func notAllowed(who *account.Principal, op string) error {
	of := ""
	if who.Project != "" {
		of = " of project " + who.Project
	}
	return holdfast.Errorf(holdfast.Denied, "%s is %s%s, which may not do that (%s)", who, who.Role, of, op)
}

// operationAt is the id of the operation that a request asks for, and what its
// path names; "": none.
func (s *Server) operationAt(router chi.Routes, r *http.Request) (string, chi.RouteParams) {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	to := chi.NewRouteContext()
	if !router.Match(to, r.Method, path) {
		return "", chi.RouteParams{}
	}
	if op := s.described(r.Method, to.RoutePattern()); op != nil {
		return op.OperationID, to.URLParams
	}
	return "", chi.RouteParams{}
}

func (s *Server) described(method, pattern string) *huma.Operation {
	item := s.api.OpenAPI().Paths[pattern]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put,
		http.MethodPatch: item.Patch, http.MethodDelete: item.Delete}[method]
}

// writeUnknown answers who is not known; what is no matter of that as it is.
func writeUnknown(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.Type == v1.ProblemType(holdfast.Denied) {
		p.Status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	write(w, p)
}

// problemOf is NewProblem, with a status of its own for attempts that are too many.
func problemOf(err error) *v1.Problem {
	p := v1.NewProblem(err)
	var many *account.TooMany
	if errors.As(err, &many) {
		p.Status = http.StatusTooManyRequests
	}
	return p
}

// retryAfter is in seconds.
func retryAfter(many *account.TooMany) string {
	return strconv.Itoa(int((many.After + time.Second - 1) / time.Second))
}
