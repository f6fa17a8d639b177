package account

import (
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/auth"
)

// LoginOIDC makes a session of somebody for whom an issuer vouches, with the role
// that the rules give to the claims at this moment. Who is given none has no
// sessions and no tokens from then on. Errors: Denied; Unavailable: the control
// plane is away.
func (s *Store) LoginOIDC(issuer, subject string, claims map[string]any, from string) (*Principal, string, error) {
	name, err := s.vouch(issuer, subject, claims)
	if err != nil {
		return nil, "", err
	}
	return s.begin(name, from, func(p *picture, t *txn) error {
		rec, ok := p.users[name]
		if !ok || rec.val.Disabled || !rec.val.OIDC.is(issuer, subject) || !p.trusts(rec.val) {
			return holdfast.Errorf(holdfast.Denied, "user %s was changed meanwhile; begin the log-in again", name)
		}
		rec.val.OIDC = &Origin{Issuer: issuer, Subject: subject, Seen: s.cfg.Clock.Wall().UTC(), Setup: rec.val.OIDC.Setup}
		return putIn(t, userKind(), rec.val, rec.mod, 0)
	})
}

func (o *Origin) is(issuer, subject string) bool {
	return o != nil && o.Issuer == issuer && o.Subject == subject
}

// vouch makes or changes the user that claims are about, and returns its name.
func (s *Store) vouch(issuer, subject string, claims map[string]any) (name string, err error) {
	var refused error
	err = s.change(func(p *picture, t *txn) error {
		o := p.oidc.val
		if refused = nil; p.oidc.mod == 0 || o.Issuer != issuer {
			return NoOIDC()
		}
		role, project, err := o.Place(claims)
		rec, there := p.cameBy(issuer, subject)
		switch {
		case err != nil:
			if refused = err; there {
				p.endSessions(t, rec.val.Name, "")
				p.endTokens(t, rec.val.Name)
			}
			return nil
		case there && rec.val.Disabled:
			return holdfast.Errorf(holdfast.Denied, "user %s is locked out at this cluster; ask a cluster admin", rec.val.Name)
		}
		u := rec.val
		if !there {
			u = User{Name: p.nameFor(o, issuer, subject, claims), Created: s.cfg.Clock.Wall().UTC()}
			u.OIDC = &Origin{Issuer: issuer, Subject: subject, Seen: u.Created, Setup: o.Setup}
		}
		name = u.Name
		if there && !p.trusts(u) { // what was begun by the earlier set-up has ended, and does not come back
			p.endSessions(t, name, "")
			p.endTokens(t, name)
			u.OIDC = &Origin{Issuer: issuer, Subject: subject, Seen: u.OIDC.Seen, Setup: o.Setup}
		} else if there && u.Role == role && u.Project == project {
			return nil
		}
		if u.Role, u.Project = role, project; !there {
			return p.addUser(t, u)
		}
		if err := p.require(t, project); err != nil {
			return err
		}
		return putIn(t, userKind(), u, rec.mod, 0)
	})
	if err == nil {
		err = refused
	}
	return name, err
}

// cameBy finds the user for whom an issuer vouched: by the subject and never by a
// name, which may be given to another.
func (p *picture) cameBy(issuer, subject string) (versioned[User], bool) {
	for _, u := range p.users {
		if u.val.OIDC.is(issuer, subject) {
			return u, true
		}
	}
	return versioned[User]{}, false
}

func (p *picture) endTokens(t *txn, owner string) {
	for hash, x := range p.tokens {
		if x.val.Owner == owner {
			t.drop(tokenKind().key(hash), x.mod)
		}
	}
}

// nameFor is a name that nobody has, as like as may be to what the claims say.
func (p *picture) nameFor(o OIDC, issuer, subject string, claims map[string]any) string {
	own := ""
	for _, claim := range []string{o.NameClaim, "preferred_username", "email"} {
		text, _ := claimOf(claims, claim).(string)
		if own = plainName(text); own != "" {
			break
		}
	}
	hash := auth.HashOf([]byte(issuer + "\x00" + subject))
	if own == "" {
		own = "user-" + hash[:8]
	}
	if _, taken := p.users[own]; taken {
		own += "-" + hash[:8]
	}
	return own
}

// maxPlain leaves room for what tells two of the same name apart.
const maxPlain = 50

// plainName is what a name may be here, made of what somebody else calls a person:
// of an address, what stands before @.
func plainName(text string) string {
	text, _, _ = strings.Cut(text, "@")
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case b.Len() >= maxPlain:
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
