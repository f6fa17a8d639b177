package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// recorded reports whether a call goes into the audit log: whatever changes
// something, and what gives data or consoles away.
func recorded(method, op string) bool {
	return changes(method) || slices.Contains([]string{"cluster-backup", "volume-backup", "volume-export", "image-export", "vm-console", "vm-screen"}, op)
}

// waysIn are the operations that are recorded though nobody is known to call them.
func waysIn() []string { return []string{"login", "setup", "join", "oidc-finish", "passkey-login"} }

// note is what a handler adds to what is recorded of its call.
type note struct {
	who    *account.Principal
	object string
}

type noteKey struct{}

func noteOf(ctx context.Context) *note {
	n, _ := ctx.Value(noteKey{}).(*note)
	if n == nil {
		n = &note{} // the call is not recorded
	}
	return n
}

// made notes the name of what a call has made or changed.
func made(ctx context.Context, out any) {
	if v := reflect.ValueOf(out); v.Kind() == reflect.Struct {
		if name := v.FieldByName("Name"); name.Kind() == reflect.String {
			noteOf(ctx).object = name.String()
		}
	}
}

// record runs a call and has it recorded. Values of bodies and queries are not:
// they may hold secrets.
func (s *Server) record(next http.Handler, w http.ResponseWriter, r *http.Request, op string, params chi.RouteParams) {
	who := principal(r.Context())
	if s.o.Audit == nil || !recorded(r.Method, op) || who == nil && !slices.Contains(waysIn(), op) {
		next.ServeHTTP(w, r)
		return
	}
	n := &note{who: who}
	r = r.WithContext(context.WithValue(r.Context(), noteKey{}, n))
	done := false
	defer func() { // a handler that panics has been called, too
		status := 0
		if to, ok := w.(middleware.WrapResponseWriter); ok && done {
			if status = to.Status(); status == 0 {
				status = http.StatusSwitchingProtocols
			}
		}
		if done && w.Header().Get(dryHeader) != "" { // nothing was changed
			return
		}
		s.write(n, changes(r.Method), addressFrom(r.Context()), op, objectOf(params, n.object), status)
	}()
	next.ServeHTTP(w, r)
	done = true
}

// objectOf says what a call was about, by its path and what came of it.
func objectOf(params chi.RouteParams, name string) string {
	var out []string
	for i, k := range params.Keys {
		if k != "*" && i < len(params.Values) {
			out = append(out, k+"="+params.Values[i])
		}
	}
	if len(out) == 0 && name != "" {
		return name
	}
	return strings.Join(out, " ")
}

func (s *Server) write(n *note, changes bool, from, op, object string, status int) {
	log, err := s.o.Audit()
	if err != nil || status == http.StatusTooManyRequests {
		return // in no cluster, there is no log; what is not looked at fills none
	}
	e := v1.AuditEntry{Who: n.who.String(), From: from, Op: op, Object: object, Status: status}
	if n.who == nil {
		ok, more := s.strangers.allow(time.Now())
		if !ok {
			return
		}
		if more > 0 {
			e.Note = fmt.Sprintf("%d more attempts of strangers at this host are not here", more)
		}
	} else if !changes && status >= http.StatusBadRequest { // as of who waits for a console
		ok, more := s.refused.allow(time.Now())
		if !ok {
			return
		}
		if more > 0 {
			e.Note = fmt.Sprintf("%d more calls at this host that were to change nothing, and got nothing, are not here", more)
		}
	}
	log.Add(e)
}

// few lets what strangers do, and what changes nothing and was refused, into the log
// in a measure that cannot push out what is there: thirty at once, and then one in
// two seconds.
type few struct {
	mu   sync.Mutex
	n    float64
	last time.Time
	more int
}

const (
	fewBurst = 30
	fewEvery = 2 * time.Second
)

// allow reports whether another one is let in, and how many were not since the
// last that was.
func (f *few) allow(now time.Time) (ok bool, more int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n = max(0, f.n-float64(now.Sub(f.last))/float64(fewEvery))
	if f.last = now; f.n >= fewBurst {
		f.more++
		return false, 0
	}
	f.n++
	more, f.more = f.more, 0
	return true, more
}
