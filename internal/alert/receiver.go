// Package alert tells people outside of the cluster what is wrong in it: receivers,
// by webhook or mail, are records in the cluster's map; the host that leads compares
// the conditions with what a receiver was told, and tells it the difference
// (docs/adr/0100-alerts-leave-from-the-leader.md, docs/alerts.md,
// docs/format/alert.md).
package alert

import (
	"crypto/x509"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
)

// ConditionPrefix begins the condition that a receiver cannot be reached; its name
// follows.
const ConditionPrefix = "alert-receiver/"

// The kinds of receivers.
const (
	Webhook = "webhook"
	Mail    = "mail"
)

// The ways to a mail server.
const (
	StartTLS = "starttls" // begin in the clear, and refuse to go on like that
	TLS      = "tls"
	Plain    = "none" // nothing is hidden, and no password is sent
)

// Bounds.
const (
	MaxReceivers  = 16
	MaxURL        = 2048 // bytes
	MaxTo         = 16   // addresses
	MaxCA         = 16 << 10
	MaxSecret     = 256
	MinSecret     = 16
	DefaultBundle = 30 * time.Second
	MaxBundle     = time.Hour
	DefaultRemind = 24 * time.Hour
	MinRemind     = time.Minute
	MaxRemind     = 30 * 24 * time.Hour
	maxAddress    = 254
)

// Receiver is somebody who is told.
type Receiver struct {
	Name     string        `json:"name"`
	Kind     string        `json:"kind"`
	Severity string        `json:"severity"`          // the least that is told of
	Bundle   time.Duration `json:"bundle"`            // from the first that is to be told until it is: what comes meanwhile goes along
	Remind   time.Duration `json:"remind,omitempty"`  // of what is still wrong; 0: never
	Private  bool          `json:"private,omitempty"` // its address may be one that is not public
	CA       string        `json:"ca,omitempty"`      // PEM: authorities that alone vouch for the server; empty: the system's
	Created  time.Time     `json:"created"`

	// Of a webhook.
	URL    account.Secret `json:"url,omitempty"` // many services put their key into it
	Secret account.Secret `json:"secret,omitempty"`

	// Of mail.
	Server   string         `json:"server,omitempty"` // host:port
	TLS      string         `json:"tls,omitempty"`
	User     string         `json:"user,omitempty"`
	Password account.Secret `json:"password,omitempty"`
	From     string         `json:"from,omitempty"`
	To       []string       `json:"to,omitempty"`
}

// severities are those of conditions, the worst first.
func severities() []string { return []string{"error", "warning", "info"} }

// rank orders severities: the worst is 0; one that is not known counts as the worst,
// so that it is told.
func rank(severity string) int { return max(0, slices.Index(severities(), severity)) }

// Check refuses what cannot be sent to. Kinds: Invalid; Denied, an address that is
// not public.
func (r *Receiver) Check() error {
	if err := holdfast.CheckName("alert receiver", r.Name); err != nil {
		return err
	}
	switch {
	case !slices.Contains(severities(), r.Severity):
		return holdfast.Errorf(holdfast.Invalid, "severity %.20q: give error, warning or info", r.Severity)
	case r.Bundle < 0 || r.Bundle > MaxBundle:
		return holdfast.Errorf(holdfast.Invalid, "bundle: alerts are gathered for up to %v, not %v", MaxBundle, r.Bundle)
	case r.Remind != 0 && (r.Remind < MinRemind || r.Remind > MaxRemind):
		return holdfast.Errorf(holdfast.Invalid, "remind: give %v to %d days, or 0 for never, not %v", MinRemind, int(MaxRemind.Hours()/24), r.Remind)
	case len(r.CA) > MaxCA:
		return holdfast.Errorf(holdfast.Invalid, "ca: %d bytes, at most %d are taken", len(r.CA), MaxCA)
	case r.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(r.CA)):
		return holdfast.Errorf(holdfast.Invalid, "ca: there is no certificate in it; give PEM")
	}
	switch r.Kind {
	case Webhook:
		return r.checkWebhook()
	case Mail:
		return r.checkMail()
	}
	return holdfast.Errorf(holdfast.Invalid, "an alert receiver is a webhook or mail, not %.20q", r.Kind)
}

func (r *Receiver) checkWebhook() error {
	if r.Server != "" || r.TLS != "" || r.User != "" || r.Password != "" || r.From != "" || len(r.To) > 0 {
		return holdfast.Errorf(holdfast.Invalid, "a webhook has a URL and a secret; server, tls, user, password, from and to are for mail")
	}
	if n := len(r.Secret); n < MinSecret || n > MaxSecret {
		return holdfast.Errorf(holdfast.Invalid, "secret: %d bytes; give %d to %d, or leave it out to have one made", n, MinSecret, MaxSecret)
	}
	_, err := r.target()
	return err
}

// target reads the URL. The errors do not repeat it.
func (r *Receiver) target() (*url.URL, error) {
	if len(r.URL) > MaxURL {
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL has %d bytes; at most %d are taken", len(r.URL), MaxURL)
	}
	u, err := url.Parse(string(r.URL))
	switch {
	case strings.ContainsFunc(string(r.URL), func(c rune) bool { return c <= ' ' || c > '~' }):
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL has spaces, or letters beyond ASCII: write them with %% and two digits each")
	case err != nil || r.URL == "":
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL cannot be read; give one such as https://example.org/alerts")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, holdfast.Errorf(holdfast.Invalid, "a URL of %.20q is not told: give one with https", u.Scheme+":")
	case u.User != nil:
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL holds a user or password: messages are signed instead; give one without")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL names no host: give one such as https://example.org/alerts")
	case u.Fragment != "":
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL has a part after #, which no server would see: give one without")
	}
	if err := checkPort(u.Port(), true); err != nil {
		return nil, err
	}
	return u, r.allowName(u.Hostname())
}

func (r *Receiver) checkMail() error {
	if r.URL != "" || r.Secret != "" {
		return holdfast.Errorf(holdfast.Invalid, "mail has a server, from and to; url and secret are for a webhook")
	}
	i := strings.LastIndexByte(r.Server, ':')
	if i <= 0 || len(r.Server) > maxAddress || strings.ContainsAny(r.Server, "/ \r\n\t") {
		return holdfast.Errorf(holdfast.Invalid, "server %.60q: give the mail server's name and port, such as mail.example.org:587", r.Server)
	}
	if err := checkPort(r.Server[i+1:], false); err != nil {
		return err
	}
	switch {
	case r.TLS != StartTLS && r.TLS != TLS && r.TLS != Plain:
		return holdfast.Errorf(holdfast.Invalid, "tls %.20q: give starttls (usual for port 587), tls (465) or none", r.TLS)
	case (r.User == "") != (r.Password == ""):
		return holdfast.Errorf(holdfast.Invalid, "a user has a password, and a password a user: give both or neither")
	case r.User != "" && r.TLS == Plain:
		return holdfast.Errorf(holdfast.Invalid, "a password is not sent in the clear: give tls starttls or tls, or no user")
	case len(r.User) > MaxSecret || len(r.Password) > MaxSecret || strings.ContainsAny(r.User, "\r\n\x00"):
		return holdfast.Errorf(holdfast.Invalid, "user and password have at most %d bytes each, in one line", MaxSecret)
	case len(r.To) == 0 || len(r.To) > MaxTo:
		return holdfast.Errorf(holdfast.Invalid, "to: give 1 to %d addresses", MaxTo)
	}
	for _, a := range append([]string{r.From}, r.To...) {
		if err := checkAddress(a); err != nil {
			return err
		}
	}
	return r.allowName(strings.Trim(r.Server[:i], "[]"))
}

// checkAddress takes a mail address alone, as it stands in the envelope.
func checkAddress(a string) error {
	p, err := mail.ParseAddress(a)
	if err != nil || p.Name != "" || p.Address != a || len(a) > maxAddress || strings.ContainsFunc(a, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' }) {
		return holdfast.Errorf(holdfast.Invalid, "%.60q is no mail address: give one such as ops@example.org, without a name", a)
	}
	return nil
}

func checkPort(port string, absent bool) error {
	if n, err := strconv.Atoi(port); (err != nil || n < 1 || n > 65535) && (port != "" || !absent) {
		return holdfast.Errorf(holdfast.Invalid, "port %.10q: ports are 1 to 65535", port)
	}
	return nil
}
