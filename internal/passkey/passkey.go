// Package passkey has people log in with a passkey in place of their password (Web
// Authentication Level 3). It knows the protocol and nothing of users and roles: what
// comes out of it is that a device has the key of a passkey, and whose that is
// (ADR 0103).
//
// Whoever has a passkey proves with it to be its owner, too, by a finger, a face or the
// device's own code: it is the device and the person, where a password is one of the
// two. What a device says about its make is neither asked for nor believed.
//
// What was begun is kept in memory by the host where it began, for five minutes and
// for one answer.
package passkey

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/pending"
)

// Bounds.
const (
	Life        = 5 * time.Minute // from the button to the device's answer
	maxPending  = 1024            // at this host at once
	maxFrom     = 32              // of one address; the oldest goes for another
	MaxAnswer   = 16 << 10        // bytes of a device's answer
	secretBytes = 32
)

// Page is where somebody is: passkeys are bound to the name, and answers to both.
type Page struct {
	Name   string // in small letters, one of the pages'
	Origin string // https://NAME:PORT, as the browser says it
}

// Config is what a Desk works with.
type Config struct {
	Clock clock.Clock
	Rand  io.Reader
	Title string // what people are told that this is
}

// Desk is one host's side towards devices with passkeys. Its methods may be called
// from any goroutine.
type Desk struct {
	cfg     Config
	pending *pending.List[begun]
}

// begun is a passkey that is to be made, or a log-in.
type begun struct {
	page Page
	user string // whose passkey is to be made; "": a log-in
	data webauthn.SessionData
}

// New makes a desk.
func New(c Config) *Desk {
	return &Desk{cfg: c, pending: pending.New[begun](c.Clock, pending.Limits{Life: Life, Most: maxPending, From: maxFrom})}
}

// Begun is what a browser goes on from.
type Begun struct {
	ID      string          // to be given with the answer
	Options json.RawMessage // for navigator.credentials, in its JSON form
}

func (d *Desk) party(p Page) (*webauthn.WebAuthn, error) {
	w, err := webauthn.New(&webauthn.Config{RPID: p.Name, RPDisplayName: d.cfg.Title, RPOrigins: []string{p.Origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(), UserVerification: protocol.VerificationRequired}})
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "passkeys at %.100q: %w", p.Origin, err)
	}
	return w, nil
}

// BeginMake begins to make a passkey of a user, at a page, for a caller's address.
func (d *Desk) BeginMake(p Page, u account.User, from string) (Begun, error) {
	w, err := d.party(p)
	if err != nil {
		return Begun{}, err
	}
	o := owner{u}
	made, data, err := w.BeginRegistration(o, webauthn.WithExclusions(webauthn.Credentials(o.WebAuthnCredentials()).CredentialDescriptors()))
	if err != nil {
		return Begun{}, refusal("a passkey cannot be made", err)
	}
	return d.keep(begun{p, u.Name, *data}, made.Response, from)
}

// FinishMake returns the passkey that a device has made for a user. Kind Denied.
func (d *Desk) FinishMake(id string, p Page, u account.User, answer []byte) (account.Passkey, error) {
	b, err := d.take(id, p, u.Name)
	if err != nil {
		return account.Passkey{}, err
	}
	w, err := d.party(p)
	if err != nil {
		return account.Passkey{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return account.Passkey{}, refusal("the device's answer cannot be read", err)
	}
	c, err := w.CreateCredential(owner{u}, b.data, parsed)
	if err != nil {
		return account.Passkey{}, refusal("the passkey is not accepted", err)
	}
	return account.Passkey{ID: base64.RawURLEncoding.EncodeToString(c.ID), Site: p.Name, Key: c.PublicKey, Count: c.Authenticator.SignCount, Synced: c.Flags.BackupEligible}, nil
}

// BeginLogin begins a log-in of whoever has a passkey.
func (d *Desk) BeginLogin(p Page, from string) (Begun, error) {
	w, err := d.party(p)
	if err != nil {
		return Begun{}, err
	}
	asked, data, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Begun{}, refusal("no log-in with a passkey can be begun", err)
	}
	return d.keep(begun{p, "", *data}, asked.Response, from)
}

// FinishLogin returns the user whose passkey a device has, as find knows it by its
// handle, and that passkey with the device's count of its uses. Kind Denied.
func (d *Desk) FinishLogin(id string, p Page, answer []byte, find func(handle []byte) (account.User, bool)) (name string, k account.Passkey, err error) {
	b, err := d.take(id, p, "")
	if err != nil {
		return "", k, err
	}
	w, err := d.party(p)
	if err != nil {
		return "", k, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return "", k, refusal("the device's answer cannot be read", err)
	}
	var u account.User
	_, c, err := w.ValidatePasskeyLogin(func(id, handle []byte) (webauthn.User, error) {
		var ok bool
		u, ok = find(handle)
		want := base64.RawURLEncoding.EncodeToString(id)
		i := slices.IndexFunc(u.Passkeys, func(x account.Passkey) bool { return x.ID == want && x.Site == p.Name })
		if !ok || i < 0 {
			return nil, errUnknown
		}
		k = u.Passkeys[i]
		return owner{u}, nil
	}, b.data, parsed)
	if err != nil {
		return "", k, refusal("the passkey is not accepted", err)
	}
	if c.Authenticator.CloneWarning {
		return "", k, account.PasskeyCopied(k.Name)
	}
	k.Count = c.Authenticator.SignCount
	return u.Name, k, nil
}

var errUnknown = errors.New("it is not known here; it may have been removed")

func (d *Desk) keep(b begun, options any, from string) (Begun, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return Begun{}, holdfast.Errorf(holdfast.Other, "passkey: %w", err)
	}
	secret := make([]byte, secretBytes)
	if _, err := io.ReadFull(d.cfg.Rand, secret); err != nil {
		return Begun{}, holdfast.Errorf(holdfast.IO, "no random bytes for a passkey: %w", err)
	}
	out := Begun{ID: base64.RawURLEncoding.EncodeToString(secret), Options: text}
	if !d.pending.Put(out.ID, from, b) {
		return Begun{}, holdfast.Errorf(holdfast.Busy, "%d log-ins with passkeys are under way at this host, as many as there may be; log in with a password, or try again in some minutes", maxPending)
	}
	return out, nil
}

// take returns what was begun at a page for a user, which nobody gets again.
func (d *Desk) take(id string, p Page, user string) (begun, error) {
	b, there, fresh := d.pending.Take(id, func(b begun) bool { return b.page == p && b.user == user })
	switch {
	case !there:
		return b, holdfast.Errorf(holdfast.Denied, "this was not begun at this host, or has been used; begin again")
	case !fresh:
		return b, holdfast.Errorf(holdfast.Denied, "more than %v have passed since this was begun; begin again", Life)
	}
	return b, nil
}

// refusal says why a device's answer is not taken.
func refusal(what string, err error) error {
	why := err.Error()
	var p *protocol.Error
	if errors.As(err, &p) && p.Details != "" {
		why = p.Details
	}
	if errors.Is(err, errUnknown) {
		why = errUnknown.Error()
	}
	why = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(why, "?"))
	return holdfast.Errorf(holdfast.Denied, "%s: %.200s", what, why)
}

// owner is a user as the library asks for it.
type owner struct{ u account.User }

// WebAuthnID implements webauthn.User.
func (o owner) WebAuthnID() []byte {
	b, err := base64.RawURLEncoding.DecodeString(o.u.Handle)
	if err != nil {
		return nil // records are checked
	}
	return b
}

// WebAuthnName implements webauthn.User.
func (o owner) WebAuthnName() string { return o.u.Name }

// WebAuthnDisplayName implements webauthn.User.
func (o owner) WebAuthnDisplayName() string { return o.u.Name }

// WebAuthnCredentials implements webauthn.User.
func (o owner) WebAuthnCredentials() []webauthn.Credential {
	var out []webauthn.Credential
	for _, k := range o.u.Passkeys {
		id, err := base64.RawURLEncoding.DecodeString(k.ID)
		if err != nil {
			continue // records are checked
		}
		flags := protocol.FlagUserPresent | protocol.FlagUserVerified
		if k.Synced {
			flags |= protocol.FlagBackupEligible
		}
		out = append(out, webauthn.Credential{ID: id, PublicKey: k.Key, Flags: webauthn.NewCredentialFlags(flags), Authenticator: webauthn.Authenticator{SignCount: k.Count}})
	}
	return out
}
