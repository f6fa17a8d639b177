package account

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// TokenPrefix begins the text of every token, so that one that got away is found
// by who looks for it.
const TokenPrefix = "hf_"

// CreateToken makes a token that lasts a time, at most MaxTokenLife, and returns
// its text, which is nowhere else. It is no more than what makes it.
func (s *Store) CreateToken(by *Principal, name string, role Role, project string, life time.Duration) (Token, string, error) {
	if life < time.Minute || life > MaxTokenLife {
		return Token{}, "", holdfast.Errorf(holdfast.Invalid, "a token lasts from a minute to %d days, not %v", int(MaxTokenLife.Hours()/24), life)
	}
	secret, err := s.secret()
	if err != nil {
		return Token{}, "", err
	}
	text := TokenPrefix + secret
	now := s.cfg.Clock.Wall().UTC().Truncate(time.Second)
	k := Token{Hash: hashOf(text), Name: name, Role: role, Project: project, Created: now, Expires: now.Add(life)}
	if by.Kind == "user" {
		k.Owner = by.Name
	}
	if err := checkToken(&k); err != nil {
		return Token{}, "", err
	}
	if !Within(role, project, by.Role, by.Project) {
		return Token{}, "", holdfast.Errorf(holdfast.Denied, "a token is no more than who makes it: %s%s", by.Role, inProject(by.Project))
	}
	err = s.change(func(p *picture, t *txn) error {
		if p.tokensOf(k.Owner) >= MaxTokens {
			return holdfast.Errorf(holdfast.Conflict, "there are %d tokens of the same owner, as many as there may be; revoke some", MaxTokens)
		}
		if err := p.require(t, k.Project); err != nil {
			return err
		}
		return putIn(t, tokenKind(), k, 0, 0)
	})
	return k, text, err
}

func inProject(p string) string {
	if p == "" {
		return " of the whole cluster"
	}
	return " of project " + p
}

func (p *picture) tokensOf(owner string) (n int) {
	for _, x := range p.tokens {
		if x.val.Owner == owner {
			n++
		}
	}
	return n
}

// Token returns whom a token lets in. Kind Denied.
func (s *Store) Token(text, from string) (*Principal, error) {
	p := s.picture()
	rec, ok := p.tokens[hashOf(text)]
	k := rec.val
	owner, there := p.users[k.Owner]
	switch {
	case !strings.HasPrefix(text, TokenPrefix) || !ok:
		return nil, holdfast.Errorf(holdfast.Denied, "there is no such token; it may have been revoked")
	case !s.cfg.Clock.Wall().Before(k.Expires):
		return nil, holdfast.Errorf(holdfast.Denied, "token %s has expired; make another one", k.Name)
	case k.Owner != "" && (!there || owner.val.Disabled || !Within(k.Role, k.Project, owner.val.Role, owner.val.Project)):
		return nil, holdfast.Errorf(holdfast.Denied, "token %s is more than its owner still is", k.Name)
	}
	if there {
		if err := s.vouched(p, owner.val); err != nil {
			return nil, err
		}
	}
	return &Principal{Kind: "token", Name: k.Name, Role: k.Role, Project: k.Project, From: from}, nil
}

// Tokens returns the tokens by name, the expired ones too.
func (s *Store) Tokens() []Token {
	var out []Token
	for _, x := range s.picture().tokens {
		out = append(out, x.val)
	}
	slices.SortFunc(out, func(a, b Token) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Hash, b.Hash)
	})
	return out
}

// RevokeToken makes the token of that hash useless. Kind NotFound: it is.
func (s *Store) RevokeToken(hash string) error {
	return s.change(func(p *picture, t *txn) error {
		x, ok := p.tokens[hash]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "there is no such token; it may have been revoked")
		}
		t.drop(tokenKind().key(hash), x.mod)
		return nil
	})
}
