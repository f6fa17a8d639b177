package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/alert"
)

// AlertReceiverRef names a receiver in a path.
type AlertReceiverRef struct {
	Receiver string `path:"receiver" maxLength:"63" doc:"Name"`
}

func (s *Server) alerts() (*alert.Store, error) {
	if s.o.Alerts == nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host tells nobody")
	}
	return s.o.Alerts()
}

// withAlerts registers an endpoint about receivers of alerts.
func withAlerts[I, O any](s *Server, method, path, id, summary string, status int, f func(ctx context.Context, a *alert.Store, in *I) (O, error)) {
	act(s, s.operation(method, path, id, summary, status), func(ctx context.Context, in *I) (O, error) {
		a, err := s.alerts()
		if err != nil {
			var zero O
			return zero, err
		}
		return f(ctx, a, in)
	})
}

func (s *Server) alertRoutes() {
	const all, one = "/v1/alert-receivers", "/v1/alert-receivers/{receiver}"
	withAlerts(s, "GET", all, "alert-receiver-list", "Who is told what is wrong", 200, func(_ context.Context, a *alert.Store, _ *none) ([]v1.AlertReceiver, error) {
		list, err := a.List()
		return render(list, renderReceiver), err
	})
	withAlerts(s, "GET", one, "alert-receiver-show", "One receiver of alerts, and whether it is reached", 200, func(_ context.Context, a *alert.Store, in *AlertReceiverRef) (v1.AlertReceiver, error) {
		r, err := a.Show(in.Receiver)
		return renderReceiver(r), err
	})
	withAlerts(s, "POST", all, "alert-receiver-create", "Have somebody told what is wrong; the secret of a webhook is in this answer alone", 201, createReceiver)
	type change struct {
		AlertReceiverRef
		Body v1.AlertReceiverSet
	}
	withAlerts(s, "PATCH", one, "alert-receiver-set", "Change a receiver of alerts; what is absent stays as it is", 200, func(ctx context.Context, a *alert.Store, in *change) (v1.AlertReceiver, error) {
		r, err := a.Set(in.Receiver, tried(ctx), func(r *alert.Receiver) { setReceiver(r, in.Body) })
		return renderReceiver(r), err
	})
	do(s, s.operation("DELETE", one, "alert-receiver-delete", "Tell a receiver nothing more", 204), func(ctx context.Context, in *AlertReceiverRef) error {
		a, err := s.alerts()
		if err != nil {
			return err
		}
		return a.Remove(in.Receiver, tried(ctx))
	})
	withAlerts(s, "POST", one+"/test", "alert-receiver-test", "Send a receiver a test message, from the host that answers, and say what became of it", 200, s.testReceiver)
}

func createReceiver(ctx context.Context, a *alert.Store, in *request[v1.AlertReceiverSpec]) (v1.AlertReceiver, error) {
	b := in.Body
	r := alert.Receiver{Name: b.Name, Kind: b.Kind, Severity: b.Severity, Bundle: alert.DefaultBundle, Remind: alert.DefaultRemind, Private: b.Private, CA: b.CA,
		URL: account.Secret(b.URL), Secret: account.Secret(b.Secret), Server: b.Server, TLS: b.TLS, User: b.User, Password: account.Secret(b.Password), From: b.From, To: b.To}
	if r.Severity == "" {
		r.Severity = "warning"
	}
	if r.TLS == "" && r.Kind == alert.Mail {
		if r.TLS = alert.StartTLS; strings.HasSuffix(r.Server, ":465") {
			r.TLS = alert.TLS
		}
	}
	seconds(&r.Bundle, b.Bundle)
	seconds(&r.Remind, b.Remind)
	r, err := a.Prepare(r)
	if err != nil {
		return v1.AlertReceiver{}, err
	}
	if err := a.Add(r, tried(ctx)); err != nil {
		return v1.AlertReceiver{}, err
	}
	out := renderReceiver(r.Info())
	if b.Secret == "" && !tried(ctx) {
		out.Secret = string(r.Secret)
	}
	return out, nil
}

func seconds(to *time.Duration, v *int64) {
	if v != nil {
		*to = time.Duration(*v) * time.Second
	}
}

func setReceiver(r *alert.Receiver, c v1.AlertReceiverSet) {
	secret := func(to *account.Secret, v *string) {
		if v != nil {
			*to = account.Secret(*v)
		}
	}
	override(&r.Severity, c.Severity)
	seconds(&r.Bundle, c.Bundle)
	seconds(&r.Remind, c.Remind)
	override(&r.Private, c.Private)
	override(&r.CA, c.CA)
	secret(&r.URL, c.URL)
	secret(&r.Secret, c.Secret)
	override(&r.Server, c.Server)
	override(&r.TLS, c.TLS)
	override(&r.User, c.User)
	secret(&r.Password, c.Password)
	if c.User != nil && *c.User == "" {
		r.Password = ""
	}
	override(&r.From, c.From)
	override(&r.To, c.To)
}

func (s *Server) testReceiver(ctx context.Context, a *alert.Store, in *AlertReceiverRef) (v1.AlertTest, error) {
	r, err := a.Receiver(in.Receiver)
	if err != nil {
		return v1.AlertTest{}, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return v1.AlertTest{}, err
	}
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return v1.AlertTest{}, holdfast.Errorf(holdfast.IO, "an identity: %w", err)
	}
	begun, self := time.Now(), s.o.Backend.Self()
	m := &alert.Message{Version: 1, ID: r.Name + "-test-" + hex.EncodeToString(id[:]), Kind: alert.Test, At: begun.UTC().Truncate(time.Second), Cluster: p.Cluster.Name,
		Host: self.Name, Receiver: r.Name, Sentence: "Somebody tries this receiver of alerts.", Alerts: []alert.Alert{}}
	answer, err := alert.Send(ctx, &r, m, begun)
	t := v1.AlertTest{OK: err == nil, Answer: answer, Host: self.Name, Millis: time.Since(begun).Milliseconds()}
	if err != nil {
		if ctx.Err() != nil {
			return t, ctx.Err()
		}
		t.Answer = err.Error()
	}
	return t, nil
}

func renderReceiver(i alert.Info) v1.AlertReceiver {
	out := v1.AlertReceiver{Name: i.Name, Kind: i.Kind, Severity: i.Severity, Bundle: int64(i.Bundle / time.Second), Remind: int64(i.Remind / time.Second), Private: i.Private,
		CA: i.CA, URL: i.Origin, Server: i.Server, TLS: i.TLS, User: i.User, From: i.From, To: i.To, State: "new", Open: i.Open, Error: i.Error, Created: i.Created}
	if !i.Sent.IsZero() {
		out.State, out.Sent = "ok", &i.Sent
	}
	if !i.Failing.IsZero() {
		out.State, out.Failing = "failing", &i.Failing
	}
	return out
}

// tellAlerts tells the receivers what is wrong while this host leads, until the server
// ends.
func (s *Server) tellAlerts() {
	for s.base.Err() == nil {
		if a, err := s.alerts(); err == nil {
			s.alertKeeper(a).Run(s.base)
			return
		}
		select {
		case <-time.After(keepIdle):
		case <-s.base.Done():
		}
	}
}

func (s *Server) alertKeeper(a *alert.Store) *alert.Keeper {
	return &alert.Keeper{Store: a, Host: s.o.Backend.Self().Name, Rand: rand.Reader, Log: s.o.Log, Send: alert.Send, Tell: s.o.AlertLost,
		Leads: func() bool {
			p, err := s.picture(s.base)
			return err == nil && p.Leader == s.o.Backend.Self().ID
		},
		Look: func() (alert.Picture, error) {
			p, err := s.picture(s.base)
			if err != nil {
				return alert.Picture{}, err
			}
			report, err := s.o.Backend.Report(s.base)
			if err != nil {
				return alert.Picture{}, err
			}
			st := p.renderStatus(s.o.Backend.Self(), report, v1.Works{})
			return alert.Picture{Cluster: p.Cluster.Name, Sentence: st.Sentence, Conditions: st.Conditions}, nil
		}}
}
