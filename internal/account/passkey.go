package account

import (
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of passkeys.
const (
	MaxPasskeys    = 16   // of one user
	maxPasskeyID   = 1364 // base64 of 1023 bytes (WebAuthn §4, credential ID)
	maxPasskeyKey  = 2048 // bytes; the largest is RSA's
	MaxPasskeyName = 63   // bytes
	handleBytes    = 32
	PasskeyIDLen   = 12
)

// Passkey is a key pair of a user's device (Web Authentication Level 3). It stands for
// the user's password at pages of one name.
type Passkey struct {
	ID      string    `json:"id"`            // the device's, base64url
	Name    string    `json:"name"`          // the user's, for people
	Site    string    `json:"site"`          // the pages' name that it is bound to
	Key     []byte    `json:"key"`           // public, COSE
	Count   uint32    `json:"count"`         // of its uses; 0: the device does not count
	Synced  bool      `json:"synced"`        // its user's other devices may have it
	Created time.Time `json:"created"`       //
	Used    time.Time `json:"used,omitzero"` // last
}

// Ref names a passkey where it is listed.
func (k *Passkey) Ref() string { return hashOf(k.ID)[:PasskeyIDLen] }

func (k *Passkey) check() error {
	if b, err := base64.RawURLEncoding.DecodeString(k.ID); err != nil || len(b) == 0 || len(k.ID) > maxPasskeyID {
		return holdfast.Errorf(holdfast.Invalid, "a passkey's id has %d characters, or is not base64", len(k.ID))
	}
	if len(k.Key) == 0 || len(k.Key) > maxPasskeyKey {
		return holdfast.Errorf(holdfast.Invalid, "a passkey's key has %d bytes; 1 to %d", len(k.Key), maxPasskeyKey)
	}
	if k.Site == "" || len(k.Site) > 253 {
		return holdfast.Errorf(holdfast.Invalid, "a passkey is of a name of %d characters; 1 to 253", len(k.Site))
	}
	if k.Name == "" || len(k.Name) > MaxPasskeyName || !utf8.ValidString(k.Name) || strings.ContainsFunc(k.Name, unicode.IsControl) {
		return holdfast.Errorf(holdfast.Invalid, "a passkey is called by 1 to %d bytes of text, not by %.70q", MaxPasskeyName, k.Name)
	}
	return nil
}

func checkPasskeys(u *User) error {
	if len(u.Passkeys) > MaxPasskeys {
		return holdfast.Errorf(holdfast.Invalid, "user %s has %d passkeys; at most %d", u.Name, len(u.Passkeys), MaxPasskeys)
	}
	if b, err := base64.RawURLEncoding.DecodeString(u.Handle); err != nil || len(b) != handleBytes && (u.Handle != "" || len(u.Passkeys) > 0) {
		return holdfast.Errorf(holdfast.Invalid, "user %s: the handle of passkeys is %d bytes in base64", u.Name, handleBytes)
	}
	for i := range u.Passkeys {
		if err := u.Passkeys[i].check(); err != nil {
			return holdfast.Errorf(holdfast.Invalid, "user %s: %w", u.Name, err)
		}
	}
	return nil
}

// PasskeyOwner makes a user one who may have passkeys, and returns it as devices are
// told of it. Errors: NotFound; Conflict: it logs in otherwise, or has as many as it
// may have.
func (s *Store) PasskeyOwner(name string) (u User, err error) {
	err = s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		u = rec.val
		switch {
		case !ok:
			return NoUser(name)
		case u.OIDC != nil:
			return holdfast.Errorf(holdfast.Conflict, "%s logs in by OpenID Connect, and a passkey would outlast that; the issuer may have passkeys", name)
		case len(u.Passkeys) >= MaxPasskeys:
			return holdfast.Errorf(holdfast.Conflict, "%s has %d passkeys, as many as one may have; remove one", name, len(u.Passkeys))
		case u.Handle != "":
			return nil
		}
		b := make([]byte, handleBytes)
		if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
			return holdfast.Errorf(holdfast.IO, "no random bytes for a passkey's user: %w", err)
		}
		u.Handle = base64.RawURLEncoding.EncodeToString(b)
		return putIn(t, userKind(), u, rec.mod, 0)
	})
	u.Password = ""
	return u, err
}

// AddPasskey adds one that the user's device has made. Errors: NotFound; Exists; Invalid;
// Conflict.
func (s *Store) AddPasskey(name string, k Passkey) error {
	k.Created = s.cfg.Clock.Wall().UTC().Truncate(time.Second)
	return s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		if !ok || rec.val.Handle == "" {
			return NoUser(name)
		}
		for _, other := range p.users {
			if slices.ContainsFunc(other.val.Passkeys, func(x Passkey) bool { return x.ID == k.ID }) {
				return holdfast.Errorf(holdfast.Exists, "this passkey is known already; use another device or another store of passkeys")
			}
		}
		if slices.ContainsFunc(rec.val.Passkeys, func(x Passkey) bool { return x.Name == k.Name }) {
			return holdfast.Errorf(holdfast.Exists, "%s has a passkey called %s; give this one another name", name, k.Name)
		}
		if len(rec.val.Passkeys) >= MaxPasskeys {
			return holdfast.Errorf(holdfast.Conflict, "%s has %d passkeys, as many as one may have; remove one", name, MaxPasskeys)
		}
		rec.val.Passkeys = append(slices.Clone(rec.val.Passkeys), k)
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
}

// RemovePasskey makes one useless; sessions go on. Kind NotFound.
func (s *Store) RemovePasskey(name, ref string) error {
	return s.change(func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		i := slices.IndexFunc(rec.val.Passkeys, func(k Passkey) bool { return k.Ref() == ref })
		if !ok || i < 0 {
			return holdfast.Errorf(holdfast.NotFound, "%.63s has no passkey with the id %.20q; see 'holdfast user passkeys %.63s'", name, ref, name)
		}
		rec.val.Passkeys = slices.Delete(slices.Clone(rec.val.Passkeys), i, i+1)
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
}

// ByHandle finds the user that a device names.
func (s *Store) ByHandle(handle []byte) (User, bool) {
	text := base64.RawURLEncoding.EncodeToString(handle)
	for _, u := range s.picture().users {
		if text != "" && u.val.Handle == text {
			u.val.Password = ""
			return u.val, true
		}
	}
	return User{}, false
}

// LoginPasskey makes a session of somebody whose device has proved to have a passkey's
// key; k says how often it was used. Errors: Denied; Unavailable: the control plane is
// away.
func (s *Store) LoginPasskey(name string, k Passkey, from string) (*Principal, string, error) {
	return s.begin(name, from, func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		i := slices.IndexFunc(rec.val.Passkeys, func(x Passkey) bool { return x.ID == k.ID })
		switch {
		case !ok || i < 0:
			return holdfast.Errorf(holdfast.Denied, "this passkey is not known here any more; log in with the password")
		case rec.val.Disabled || rec.val.OIDC != nil:
			return holdfast.Errorf(holdfast.Denied, "user %s is locked out; ask a cluster admin", name)
		case k.Count != 0 && k.Count <= rec.val.Passkeys[i].Count:
			return PasskeyCopied(k.Name)
		}
		rec.val.Passkeys = slices.Clone(rec.val.Passkeys)
		rec.val.Passkeys[i].Count, rec.val.Passkeys[i].Used = k.Count, s.cfg.Clock.Wall().UTC().Truncate(time.Second)
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
}

// PasskeyCopied is the error of a device that counts its uses, and has counted back.
func PasskeyCopied(name string) error {
	return holdfast.Errorf(holdfast.Denied, "passkey %s was used by two devices, so it may have been copied; log in with the password, and remove it", name)
}
