package account

import (
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Where the records stand: below what package cluster keeps, mirrors and
// recovers, in a directory of which it knows nothing.
const (
	root       = "holdfast/2/account/"
	dirUser    = root + "user/"
	dirSession = root + "session/"
	dirToken   = root + "token/"
	dirProject = root + "project/"
	dirOwned   = root + "owned/"
	keySetup   = root + "setup"
	keyOIDC    = root + "oidc"
)

// Bounds.
const (
	MaxUsers       = 1000
	MaxSessions    = 16 // of one user; the oldest is ended for another
	MaxTokens      = 32 // of one owner
	maxKnown       = 8  // addresses of a user
	maxNote        = 100
	SessionIdle    = time.Hour      // counted by the store's leases
	SessionLife    = 12 * time.Hour // by the calendar of the host that is asked
	MaxTokenLife   = 366 * 24 * time.Hour
	secretBytes    = 32
	hashLen        = 64 // hexadecimal digits
	tokenIDLen     = 12
	SessionIDLen   = 16
	settleTime     = 10 * time.Second
	changeAttempts = 5
)

// Secret is what must not be shown: it is written into records only.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "(secret)" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// User is somebody who may log in, with a password or at an issuer of OpenID
// Connect.
type User struct {
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Project  string    `json:"project,omitempty"`  // "": the whole cluster
	Password Secret    `json:"password,omitempty"` // see Hash; empty: none was set, nobody can log in
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	// Known are addresses that the user has logged in from: attempts from elsewhere
	// cannot lock the user out there.
	Known []string `json:"known,omitempty"`
	// OIDC says for whom the issuer vouched; nil: a user of this cluster alone.
	OIDC *Origin `json:"oidc,omitempty"`
	// Passkeys stand for the password, and Handle is who the user is to devices that
	// have one (WebAuthn §4, user handle); "": none has had one.
	Passkeys []Passkey `json:"passkeys,omitempty"`
	Handle   string    `json:"handle,omitempty"`
}

// Session is one log-in. The record hangs on a lease that its use renews.
type Session struct {
	Hash    string     `json:"hash"` // SHA-256 of the secret
	User    string     `json:"user"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	From    string     `json:"from"` // address
	Lease   kv.LeaseID `json:"lease"`
}

// ID names a session where it is listed; it opens nothing.
func (s *Session) ID() string { return s.Hash[:SessionIDLen] }

// Token lets a program in.
type Token struct {
	Hash    string    `json:"hash"`
	Name    string    `json:"name"`
	Owner   string    `json:"owner,omitempty"` // the user who made it; "": the administrator, by certificate or socket
	Role    Role      `json:"role"`
	Project string    `json:"project,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

// ID names a token where it is listed; it opens nothing.
func (t *Token) ID() string { return t.Hash[:tokenIDLen] }

// setup is the link that makes the first administrator.
type setup struct {
	Hash    string    `json:"hash"`
	Created time.Time `json:"created"`
}

// kind is one kind of record.
type kind[T any] struct {
	dir   string
	id    func(*T) string
	check func(*T) error
}

func (k kind[T]) key(id string) string { return k.dir + id }

func (k kind[T]) encode(v *T) ([]byte, error) {
	if err := k.check(v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// decode reads a record, and refuses one that stands under another's key.
func (k kind[T]) decode(key string, b []byte) (v T, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		return v, holdfast.Errorf(holdfast.Corrupt, "%s: %w", key, err)
	}
	if err := k.check(&v); err != nil {
		return v, holdfast.Errorf(holdfast.Corrupt, "%s: %w", key, err)
	}
	if k.key(k.id(&v)) != key {
		return v, holdfast.Errorf(holdfast.Corrupt, "%s holds the record of another", key)
	}
	return v, nil
}

func userKind() kind[User] {
	return kind[User]{dirUser, func(u *User) string { return u.Name }, checkUser}
}

func sessionKind() kind[Session] {
	return kind[Session]{dirSession, func(s *Session) string { return s.Hash }, checkSession}
}

func tokenKind() kind[Token] {
	return kind[Token]{dirToken, func(t *Token) string { return t.Hash }, checkToken}
}

func setupKind() kind[setup] {
	return kind[setup]{keySetup, func(*setup) string { return "" }, func(s *setup) error { return checkHash(s.Hash) }}
}

func checkUser(u *User) error {
	if err := holdfast.CheckName("user", u.Name); err != nil {
		return err
	}
	if len(u.Known) > maxKnown || slices.ContainsFunc(u.Known, func(a string) bool { return len(a) > maxNote }) {
		return holdfast.Errorf(holdfast.Invalid, "user %s: at most %d addresses are kept", u.Name, maxKnown)
	}
	if u.Password != "" {
		if _, err := parseHash(string(u.Password)); err != nil {
			return holdfast.Errorf(holdfast.Invalid, "user %s: %w", u.Name, err)
		}
	}
	if err := u.OIDC.check(u); err != nil {
		return err
	}
	if err := checkPasskeys(u); err != nil {
		return err
	}
	return CheckPlace(u.Role, u.Project)
}

func checkSession(s *Session) error {
	if len(s.From) > maxNote {
		return holdfast.Errorf(holdfast.Invalid, "a session's address has %d bytes", len(s.From))
	}
	if err := holdfast.CheckName("user", s.User); err != nil {
		return err
	}
	return checkHash(s.Hash)
}

func checkToken(t *Token) error {
	if err := holdfast.CheckName("token", t.Name); err != nil {
		return err
	}
	if t.Owner != "" {
		if err := holdfast.CheckName("user", t.Owner); err != nil {
			return err
		}
	}
	if err := CheckPlace(t.Role, t.Project); err != nil {
		return err
	}
	return checkHash(t.Hash)
}

func checkHash(h string) error {
	if b, err := hex.DecodeString(h); err != nil || len(b) != hashLen/2 || strings.ToLower(h) != h {
		return holdfast.Errorf(holdfast.Invalid, "a hash is %d lower case hexadecimal digits, not %d characters", hashLen, len(h))
	}
	return nil
}

// WithoutSecrets returns records as they may stand on a disk in the clear: users
// without their passwords and passkeys, OpenID Connect without its secret, and no token.
func WithoutSecrets(items []kv.Item) []kv.Item {
	var out []kv.Item
	for _, it := range items {
		switch {
		case strings.HasPrefix(it.Key, dirToken), strings.HasPrefix(it.Key, dirSession), it.Key == keySetup:
			continue
		case strings.HasPrefix(it.Key, dirUser):
			u, err := userKind().decode(it.Key, it.Value)
			if err != nil {
				continue // what it holds is not known
			}
			u.Password, u.Passkeys, u.Handle = "", nil, ""
			if it.Value, err = json.Marshal(u); err != nil {
				continue
			}
		case it.Key == keyOIDC:
			o, err := oidcKind().decode(it.Key, it.Value)
			if err != nil {
				continue
			}
			o.ClientSecret = ""
			if it.Value, err = json.Marshal(o); err != nil {
				continue
			}
		}
		out = append(out, it)
	}
	return out
}
