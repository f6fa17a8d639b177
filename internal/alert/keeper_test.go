package alert

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hand is a clock that goes on when it is told to.
type hand struct {
	clock.System
	at time.Duration
}

func (h *hand) Now() time.Duration { return h.at }
func (h *hand) Wall() time.Time    { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(h.at) }

// scene is two hosts, one of which leads, and what the receivers got.
type scene struct {
	*testing.T
	clock  *hand
	srv    *memkv.Server
	leader string
	due    map[string]time.Duration // when a host looks again
	hosts  map[string]*Keeper
	status Picture

	mu     sync.Mutex
	got    []*Message
	fail   error             // of what is sent
	told   map[string]string // conditions, by host and receiver
	logged bytes.Buffer
}

const secret = "a-secret-that-nobody-sees"

func newScene(t *testing.T, rs ...Receiver) *scene {
	t.Helper()
	s := &scene{T: t, clock: &hand{at: time.Hour}, leader: "a", due: map[string]time.Duration{}, hosts: map[string]*Keeper{}, told: map[string]string{}}
	s.srv = memkv.NewServer(memkv.Config{Clock: clock.System{}, Rand: func(string) *mrand.Rand { return mrand.New(mrand.NewPCG(1, 2)) }, MaxLatency: 1})
	for i, name := range []string{"a", "b"} {
		h := s.srv.Handle(name, clock.System{})
		t.Cleanup(func() { h.Close() })
		s.hosts[name] = &Keeper{Store: &Store{KV: h, Clock: s.clock, Rand: mrand.NewChaCha8([32]byte{byte(i)})}, Host: name, Rand: mrand.NewChaCha8([32]byte{byte(i), 1}),
			Log: slog.New(slog.NewTextHandler(&s.logged, nil)), Leads: func() bool { return s.leader == name },
			Look: func() (Picture, error) { return s.status, nil }, Send: s.send,
			Tell: func(r, text string) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.told[name+" "+r] = text; text == "" {
					delete(s.told, name+" "+r)
				}
			}}
	}
	s.status = Picture{Cluster: "field", Sentence: "All 12 VMs running."}
	for _, r := range rs {
		r, err := s.store().Prepare(r)
		if err == nil {
			err = s.store().Add(r, false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// ops is a receiver as most are.
func ops() Receiver {
	return Receiver{Name: "ops", Kind: Webhook, Severity: "warning", Bundle: DefaultBundle, Remind: DefaultRemind, URL: "https://example.org/hook/" + secret, Secret: secret}
}

func (s *scene) store() *Store { return s.hosts["a"].Store }

func (s *scene) send(ctx context.Context, r *Receiver, m *Message, _ time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if s.fail == nil {
		s.got = append(s.got, m)
	}
	return "200 OK", s.fail
}

// passes lets time pass, and returns what was told meanwhile.
func (s *scene) passes(d time.Duration) []*Message {
	s.Helper()
	before := len(s.got)
	for end := s.clock.at + d; s.clock.at < end; s.clock.at += time.Second {
		for _, name := range []string{"a", "b"} {
			if s.clock.at >= s.due[name] {
				s.due[name] = s.clock.at + s.hosts[name].Step(s.Context())
			}
		}
	}
	return s.got[before:]
}

// is sets what is wrong: "error rack-away/b the text", effects indented.
func (s *scene) is(lines ...string) {
	s.status.Conditions = nil
	for _, l := range lines {
		w := strings.SplitN(strings.TrimSpace(l), " ", 3)
		c := v1.Condition{Severity: w[0], ID: w[1], Text: w[1] + " is wrong"}
		if n := len(s.status.Conditions); strings.HasPrefix(l, " ") {
			s.status.Conditions[n-1].Effects = append(s.status.Conditions[n-1].Effects, c)
		} else {
			s.status.Conditions = append(s.status.Conditions, c)
		}
	}
}

// says is what messages say, in short.
func says(ms []*Message) string {
	var out []string
	for _, m := range ms {
		var as []string
		for _, a := range m.Alerts {
			as = append(as, fmt.Sprintf("%s %s %s", a.Change, a.Severity, a.ID))
		}
		out = append(out, m.Kind+": "+strings.Join(as, ", "))
	}
	return strings.Join(out, "; ")
}

func (s *scene) want(is []*Message, want string) {
	s.Helper()
	if got := says(is); got != want {
		s.Errorf("told\n  %s\nwant\n  %s", got, want)
	}
}

// A condition is told when it appears, gets worse, gets better, and is over.
func TestWhatIsTold(t *testing.T) {
	s := newScene(t, ops())
	s.want(s.passes(time.Minute), "")
	s.is("warning disk-filling/b1:sda")
	s.want(s.passes(29*time.Second), "")
	s.want(s.passes(10*time.Second), "alerts: raised warning disk-filling/b1:sda")
	s.is("error disk-filling/b1:sda")
	s.want(s.passes(time.Minute), "alerts: changed error disk-filling/b1:sda")
	s.is("warning disk-filling/b1:sda")
	s.want(s.passes(4*time.Minute), "")
	s.want(s.passes(2*time.Minute), "alerts: changed warning disk-filling/b1:sda")
	s.is()
	s.want(s.passes(6*time.Minute), "alerts: cleared warning disk-filling/b1:sda")
	s.want(s.passes(48*time.Hour/60), "")
}

// What is less than a receiver wants is not told, and what becomes less is over.
func TestASeverityIsNotToldBelow(t *testing.T) {
	r := ops()
	r.Severity = "error"
	s := newScene(t, r)
	s.is("info key-rotation", "warning host-away/b1")
	s.want(s.passes(10*time.Minute), "")
	s.is("error host-away/b1")
	s.want(s.passes(time.Minute), "alerts: raised error host-away/b1")
	s.is("warning host-away/b1")
	s.want(s.passes(6*time.Minute), "alerts: changed warning host-away/b1")
	s.is()
	s.want(s.passes(10*time.Minute), "")
}

// A rack falls: sixty volumes and VMs, one after the other, are one message; and when
// it comes back they do not make sixty.
func TestARackThatFallsIsOneMessage(t *testing.T) {
	s := newScene(t, ops())
	lines := []string{"warning rack-away/b"}
	for i := range 30 {
		lines = append(lines, fmt.Sprintf("  warning volume-one-copy/v%02d", i), fmt.Sprintf("  error vm-down/vm%02d", i))
		if i == 0 {
			lines[0] = "error rack-away/b"
		}
		s.is(lines...)
		if m := s.passes(time.Second / 2); len(m) > 0 {
			t.Fatalf("after %d: %s", i, says(m))
		}
	}
	told := s.passes(time.Minute)
	s.want(told, "alerts: raised error rack-away/b")
	if a := told[0].Alerts[0]; len(a.Effects) != maxEffects || a.More != 60-maxEffects || a.Effects[0].Severity != "error" || a.Runbook != "rack-away" {
		t.Errorf("%+v", a)
	}
	// Its VMs run again elsewhere, and its copies are built anew: nobody wants to know
	// of each.
	for i := range 30 {
		s.is(append([]string{"warning rack-away/b"}, lines[2*i+1])...)
		s.passes(10 * time.Second)
	}
	s.passes(time.Minute)
	s.want(s.got[1:], "alerts: changed warning rack-away/b")
	// A VM that is lost after all is news, once.
	s.is("error rack-away/b", "  error vm-down/vm07")
	s.want(s.passes(time.Minute), "alerts: changed error rack-away/b")
	s.is("error rack-away/b", "  error vm-down/vm07", "  error volume-lost/v07")
	s.want(s.passes(time.Minute), "alerts: changed error rack-away/b")
	s.want(s.passes(time.Hour), "")
	// It is back, and thirty copies are brought up to date one by one.
	for i := range 30 {
		var left []string
		for j := i; j < 30; j++ {
			left = append(left, fmt.Sprintf("warning volume-one-copy/v%02d", j))
		}
		s.is(left...)
		s.passes(20 * time.Second)
	}
	s.is()
	s.passes(10 * time.Minute)
	if n := len(s.got); n > 9 {
		t.Errorf("%d messages: %s", n, says(s.got))
	}
	if last := s.got[len(s.got)-1]; last.Open != 0 || last.Alerts[0].Change != Cleared {
		t.Errorf("in the end: %+v", last)
	}
}

// What is wrong alone and then follows from something else is not over.
func TestWhatMovesUnderItsCauseIsNotOver(t *testing.T) {
	s := newScene(t, ops())
	s.is("error vm-down/db1")
	s.want(s.passes(time.Minute), "alerts: raised error vm-down/db1")
	s.is("error host-away/b1", "  error vm-down/db1")
	s.want(s.passes(10*time.Minute), "alerts: raised error host-away/b1")
	s.is("error vm-down/db1")
	s.want(s.passes(10*time.Minute), "alerts: cleared error host-away/b1")
	s.is()
	s.want(s.passes(10*time.Minute), "alerts: cleared error vm-down/db1")
}

func TestWhatIsOverSoonIsNotTold(t *testing.T) {
	s := newScene(t, ops())
	for range 20 {
		s.is("error vm-down/db1")
		s.want(s.passes(20*time.Second), "")
		s.is()
		s.want(s.passes(10*time.Second), "")
	}
	// Nor is it over what is there again soon.
	s.is("error vm-down/db1")
	s.want(s.passes(time.Minute), "alerts: raised error vm-down/db1")
	for range 20 {
		s.is()
		s.passes(time.Minute)
		s.is("error vm-down/db1")
		s.passes(time.Minute)
	}
	s.want(s.got[1:], "")
}

func TestWhatStaysWrongIsSaidAgain(t *testing.T) {
	r, never := ops(), ops()
	r.Remind, never.Remind, never.Name = time.Hour, 0, "never"
	s := newScene(t, r, never)
	s.is("warning host-away/b1", "info key-rotation")
	s.passes(3*time.Hour + time.Minute)
	var got []*Message
	for _, m := range s.got {
		if m.Receiver == "ops" {
			got = append(got, m)
		}
	}
	s.want(got, "alerts: raised warning host-away/b1; reminder: open warning host-away/b1; reminder: open warning host-away/b1; reminder: open warning host-away/b1")
	if len(s.got) != len(got)+1 {
		t.Errorf("who is never reminded was told %d messages", len(s.got)-len(got))
	}
	// A calendar that is set back does not silence it.
	ids := map[string]bool{}
	for _, m := range s.got {
		if ids[m.ID] {
			t.Errorf("%s twice", m.ID)
		}
		ids[m.ID] = true
	}
}

// Whoever leads next tells nothing again, and what the last one could not tell.
func TestOnceOverAChangeOfLeader(t *testing.T) {
	s := newScene(t, ops())
	s.is("warning host-away/b1")
	s.want(s.passes(time.Minute), "alerts: raised warning host-away/b1")
	for _, next := range []string{"b", "a", "b"} {
		s.leader = next
		s.want(s.passes(time.Hour), "")
	}
	// b puts a message together and is lost before it is sent.
	s.is("error host-away/b1")
	s.passes(29 * time.Second)
	gone, lost := context.WithCancel(t.Context())
	lost()
	for range 5 {
		s.clock.at += time.Second
		s.hosts["b"].Step(gone)
	}
	s.want(s.got[1:], "")
	all, _, err := s.store().read()
	if err != nil || all[0].Waiting == nil {
		t.Fatalf("%+v, %v", all, err)
	}
	id := all[0].Waiting.ID
	s.leader = "a"
	if told := s.passes(5 * time.Second); len(told) != 1 || told[0].ID != id || told[0].Host != "b" {
		t.Fatalf("%s: %s", id, says(told))
	}
	s.want(s.passes(time.Hour), "")
	// Both believe for a while that they lead: what is told twice says so.
	s.hosts["b"].Leads = func() bool { return true }
	s.is("error host-away/b1", "error disk-full/a1:sda")
	told := s.passes(10 * time.Minute)
	for _, m := range told {
		if m.ID != told[0].ID {
			t.Errorf("two messages: %s and %s", m.ID, told[0].ID)
		}
	}
	if len(told) == 0 {
		t.Error("nothing was told")
	}
}

// What cannot be delivered waits, with longer and longer pauses, and is told of.
func TestAReceiverThatCannotBeReached(t *testing.T) {
	s := newScene(t, ops())
	s.is("warning host-away/b1")
	s.fail = holdfast.Errorf(holdfast.Unavailable, "the server cannot be reached: connection refused")
	tries := 0
	s.hosts["a"].Send = func(ctx context.Context, r *Receiver, m *Message, at time.Time) (string, error) {
		tries++
		return s.send(ctx, r, m, at)
	}
	s.passes(time.Hour)
	if tries < 8 || tries > 14 {
		t.Errorf("%d attempts in an hour", tries)
	}
	if text := s.told["a ops"]; !strings.Contains(text, "connection refused") || !strings.Contains(text, "alert receiver test ops") {
		t.Errorf("the condition: %q", text)
	}
	// It does not learn of itself, others do.
	s.is("warning host-away/b1", "warning alert-receiver/ops@a")
	if info, err := s.store().Show("ops"); err != nil || info.Failing.IsZero() || !strings.Contains(info.Error, "refused") || !info.Sent.IsZero() {
		t.Errorf("%+v, %v", info, err)
	}
	// The next who leads takes that over.
	s.leader = "b"
	s.passes(2 * time.Minute)
	if s.told["a ops"] != "" || s.told["b ops"] == "" {
		t.Errorf("%v", s.told)
	}
	// A changed receiver is tried at once.
	s.passes(10 * time.Minute)
	s.fail = nil
	if _, err := s.store().Set("ops", false, func(r *Receiver) { r.Remind = 0 }); err != nil {
		t.Fatal(err)
	}
	s.want(s.passes(3*time.Second), "alerts: raised warning host-away/b1")
	if len(s.told) > 0 {
		t.Errorf("%v", s.told)
	}
	if info, err := s.store().Show("ops"); err != nil || !info.Failing.IsZero() || info.Error != "" || info.Sent.IsZero() || info.Open != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if log := s.logged.String(); !strings.Contains(log, "refused") || strings.Contains(log, secret) {
		t.Errorf("the log:\n%s", log)
	}
}

// With the control plane away, whoever has led tells that, too.
func TestAControlPlaneThatIsAwayIsTold(t *testing.T) {
	s := newScene(t, ops())
	s.is("warning host-away/b1")
	s.want(s.passes(time.Minute), "alerts: raised warning host-away/b1")
	away := func() {
		s.hosts["a"].Store.KV = down{}
		s.is("error control-plane-away", "warning host-away/b1")
		s.want(s.passes(10*time.Minute), "alerts: raised error control-plane-away")
		if m := s.got[len(s.got)-1]; m.Open != 2 {
			t.Errorf("%+v", m)
		}
	}
	back := func() { s.hosts["a"].Store.KV = s.srv.Handle("c", clock.System{}); s.is("warning host-away/b1") }
	away()
	back()
	s.want(s.passes(10*time.Minute), "alerts: cleared error control-plane-away")
	// And if somebody else leads by then, they say that it is over.
	away()
	s.leader = "b"
	back()
	s.want(s.passes(10*time.Minute), "alerts: cleared error control-plane-away")
	s.want(s.passes(10*time.Minute), "")
}

// down is a control plane that is away.
type down struct{ kv.Store }

func (down) Range(string) ([]kv.Item, kv.Rev, error) {
	return nil, 0, holdfast.Errorf(holdfast.Unavailable, "away")
}

func (down) Commit([]kv.Cond, []kv.Op) (kv.Rev, error) {
	return 0, holdfast.Errorf(holdfast.Unavailable, "away")
}

func TestReceiversAreBounded(t *testing.T) {
	s := newScene(t)
	for i := range MaxReceivers + 1 {
		r := ops()
		r.Name = fmt.Sprintf("r%d", i)
		if err := s.store().Add(r, false); (err != nil) != (i == MaxReceivers) || err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for i := 1; i < MaxReceivers; i++ {
		if err := s.store().Remove(fmt.Sprintf("r%d", i), false); err != nil {
			t.Fatal(err)
		}
	}
	// Very much that is wrong is counted, and fits.
	var lines []string
	for i := range 2 * maxOpen {
		lines = append(lines, fmt.Sprintf("error vm-down/a-name-that-is-rather-long-%d", i))
	}
	s.is(lines...)
	for i := range s.status.Conditions {
		s.status.Conditions[i].Text = strings.Repeat("語", 2000)
	}
	s.passes(40 * time.Second)
	if len(s.got) != 1 {
		t.Fatalf("%d messages", len(s.got))
	}
	m := s.got[0]
	if n := len(encode(m)); n > maxWaiting || len(m.Alerts)+m.More != maxOpen || m.Open != maxOpen || len(m.Alerts) < 10 {
		t.Errorf("%d bytes, %d alerts and %d more, %d open", n, len(m.Alerts), m.More, m.Open)
	}
	if all, _, err := s.store().read(); err != nil || len(all) != 1 || len(all[0].Open) != maxOpen {
		t.Errorf("%d, %v", len(all), err)
	}
	s.want(s.passes(10*time.Minute), "")
	s.is()
	s.passes(6 * time.Minute)
	if all, _, err := s.store().read(); err != nil || len(all[0].Open) != 0 {
		t.Errorf("%v", err)
	}
}

func TestWithoutSecrets(t *testing.T) {
	letter := Receiver{Name: "mail", Kind: Mail, Severity: "error", Server: "mail.example.org:587", TLS: StartTLS, User: "ann", Password: secret, From: "a@example.org", To: []string{"b@example.org"}}
	s := newScene(t, ops(), letter)
	items, _, err := s.store().KV.Range(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		if !strings.Contains(string(it.Value), secret) {
			t.Fatalf("%s has no secret to lose", it.Key)
		}
	}
	open := WithoutSecrets(append(items, kv.Item{Key: dirReceiver + "odd", Value: []byte(`{"secret":"` + secret + `"}`)}))
	for _, it := range open {
		if strings.Contains(string(it.Value), secret) {
			t.Errorf("%s: %s", it.Key, it.Value)
		}
	}
	all, bad := gather(open)
	if len(bad) > 0 || len(all) != 1 || all[0].Name != "mail" {
		t.Errorf("%+v, %v", all, bad)
	}
	_, err = Send(t.Context(), &all[0].Receiver, &Message{}, time.Now())
	if !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), "--password-file") {
		t.Errorf("without its password: %v", err)
	}
	if text := fmt.Sprintf("%+v %#v %v", letter, letter, letter.Password); strings.Contains(text, secret) {
		t.Error("a secret prints itself")
	}
}

func TestABadReceiverIsRefused(t *testing.T) {
	good := func(f func(r *Receiver)) Receiver { r := ops(); f(&r); return r }
	letter := func(f func(r *Receiver)) Receiver {
		r := Receiver{Name: "mail", Kind: Mail, Severity: "error", Server: "mail.example.org:587", TLS: StartTLS, From: "a@example.org", To: []string{"b@example.org"}}
		f(&r)
		return r
	}
	url := func(u string) Receiver { return good(func(r *Receiver) { r.URL = account.Secret(u) }) }
	for _, c := range []struct {
		r    Receiver
		kind holdfast.Kind
		says string
	}{
		{good(func(r *Receiver) { r.Name = "UP" }), holdfast.Invalid, "name"},
		{good(func(r *Receiver) { r.Kind = "pigeon" }), holdfast.Invalid, "pigeon"},
		{good(func(r *Receiver) { r.Severity = "loud" }), holdfast.Invalid, "loud"},
		{good(func(r *Receiver) { r.Bundle = -1 }), holdfast.Invalid, "bundle"},
		{good(func(r *Receiver) { r.Remind = time.Second }), holdfast.Invalid, "remind"},
		{good(func(r *Receiver) { r.Secret = "short" }), holdfast.Invalid, "secret"},
		{good(func(r *Receiver) { r.CA = "no PEM" }), holdfast.Invalid, "PEM"},
		{good(func(r *Receiver) { r.Server = "x:25" }), holdfast.Invalid, "mail"},
		{url(""), holdfast.Invalid, "URL"},
		{url("ftp://example.org/"), holdfast.Invalid, "ftp"},
		{url("https://"), holdfast.Invalid, "no host"},
		{url("https://example.org/?key=a b"), holdfast.Invalid, "spaces"},
		{url("https:///path"), holdfast.Invalid, "no host"},
		{url("https://ann:word@example.org/"), holdfast.Invalid, "password"},
		{url("https://example.org:99999/"), holdfast.Invalid, "port"},
		{url("https://example.org/#x"), holdfast.Invalid, "#"},
		{url("https://example.org/" + strings.Repeat("x", MaxURL)), holdfast.Invalid, "bytes"},
		{url("https://127.0.0.1/"), holdfast.Denied, "loopback"},
		{url("http://10.1.2.3/"), holdfast.Denied, "'private'"},
		{url("https://[::1]:7440/"), holdfast.Denied, "loopback"},
		{url("https://[::ffff:192.168.1.1]/"), holdfast.Denied, "private"},
		{url("http://169.254.169.254/latest"), holdfast.Denied, "link-local"},
		{url("https://0.0.0.0/"), holdfast.Denied, "no host's"},
		{letter(func(r *Receiver) { r.URL = "https://example.org" }), holdfast.Invalid, "webhook"},
		{letter(func(r *Receiver) { r.Server = "mail" }), holdfast.Invalid, "server"},
		{letter(func(r *Receiver) { r.Server = "mail:x" }), holdfast.Invalid, "port"},
		{letter(func(r *Receiver) { r.Server = "192.168.0.1:25" }), holdfast.Denied, "private"},
		{letter(func(r *Receiver) { r.Server = "[fe80::1]:25" }), holdfast.Denied, "link-local"},
		{letter(func(r *Receiver) { r.TLS = "ssl" }), holdfast.Invalid, "tls"},
		{letter(func(r *Receiver) { r.User = "ann" }), holdfast.Invalid, "password"},
		{letter(func(r *Receiver) { r.User, r.Password, r.TLS = "ann", secret, Plain }), holdfast.Invalid, "in the clear"},
		{letter(func(r *Receiver) { r.To = nil }), holdfast.Invalid, "to"},
		{letter(func(r *Receiver) { r.To = []string{"b@example.org\r\nBcc: c@example.org"} }), holdfast.Invalid, "mail address"},
		{letter(func(r *Receiver) { r.From = "Ann <a@example.org>" }), holdfast.Invalid, "without a name"},
		{letter(func(r *Receiver) { r.From = "<a@example.org>" }), holdfast.Invalid, "mail address"},
	} {
		err := c.r.Check()
		if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "ann:") {
			t.Errorf("%+v: %v", c.r, err)
		}
	}
	for _, r := range []Receiver{ops(), letter(func(*Receiver) {}), url("http://example.org"), url("https://127.1/"), // that is seen when it is dialled
		good(func(r *Receiver) { r.URL, r.Private = "http://10.1.2.3:8080/x?y", true }), letter(func(r *Receiver) { r.Server, r.Private, r.TLS = "[fd00::1]:25", true, Plain })} {
		if err := r.Check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if r := good(func(r *Receiver) { r.URL, r.Private = "http://169.254.169.254/", true }); !holdfast.IsKind(r.Check(), holdfast.Denied) {
		t.Error("a cloud's metadata is no receiver")
	}
}

// FuzzRecords: what stands in the map is read or refused, and what is read is safe to
// go on with.
func FuzzRecords(f *testing.F) {
	f.Add(dirReceiver+"ops", encode(ops()))
	f.Add(dirTold+"ops", encode(Told{Of: "ops", Seq: 3, Open: map[string]OpenOne{"rack-away/b": {Severity: "error", Worse: []string{"vm-down/x"}}}, Waiting: &Message{ID: "ops-3-x"}}))
	f.Add(dirReceiver+"mail", []byte(`{"name":"mail","kind":"mail","severity":"info","server":"m:25","tls":"none","from":"a@b","to":["c@d"]}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		all, _ := gather([]kv.Item{{Key: key, Value: value, Mod: 1}, {Key: dirReceiver + "ops", Value: encode(ops()), Mod: 2}})
		for _, r := range all {
			if r.User == "" && r.Check() != nil || !slices.Contains([]string{Webhook, Mail}, r.Kind) {
				t.Fatalf("%q: %v", value, r.Check())
			}
			c := compare(&r.Receiver, &r.Told, []v1.Condition{{ID: "rack-away/b", Severity: "warning"}})
			if len(c.open) > maxOpen {
				t.Fatal(len(c.open))
			}
			if m := r.Waiting; m != nil {
				if r.Kind == Mail && bytes.Contains(r.letter(m, time.Time{}), []byte("\n\n")) {
					t.Fatal("a bare line end")
				}
				_ = m.Subject()
			}
			_ = r.info()
		}
	})
}
