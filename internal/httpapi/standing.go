package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// standingLook is how often it is looked whether who is told something on and on
// still may be.
const standingLook = time.Second

// standing reports whether an operation goes on for as long as the caller likes.
func standing(op string) bool { return op == "watch" || op == "vm-console" || op == "vm-screen" }

// whileAllowed serves a request until who makes it may no more: the session has
// ended, the token was revoked, the role or the project is another one. Certificates
// last as long as their connections.
func (s *Server) whileAllowed(need account.Need, next http.Handler, w http.ResponseWriter, r *http.Request) {
	if k := principal(r.Context()).Kind; k != "user" && k != "token" {
		next.ServeHTTP(w, r)
		return
	}
	ctx, end := context.WithCancel(r.Context())
	looked := make(chan struct{})
	defer func() { end(); <-looked }()
	go func() {
		defer close(looked)
		defer end()
		look := time.NewTicker(standingLook)
		defer look.Stop()
		for s.stillMay(need, r) {
			select {
			case <-look.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	next.ServeHTTP(w, r.WithContext(ctx))
}

// stillMay is true, too, while nothing can be known of accounts.
func (s *Server) stillMay(need account.Need, r *http.Request) bool {
	who, err := s.identify(r)
	if err != nil {
		return !holdfast.IsKind(err, holdfast.Denied)
	}
	return who.May(need) && who.Project == principal(r.Context()).Project
}
