package httpapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/passkey"
)

const passkeyPath = "/v1/login/passkey"

// passkeyPage is where the caller is, which passkeys are bound to. Kind Conflict: at
// none of the pages' names.
func (s *Server) passkeyPage(ctx context.Context) (passkey.Page, error) {
	_, p, err := s.pages()
	if err != nil {
		return passkey.Page{}, err
	}
	name, ok := named(ctx, p)
	if !ok {
		return passkey.Page{}, holdfast.Errorf(holdfast.Conflict, "passkeys are bound to a name: open https://%s with the port of this page, and trust the authority of its certificate first ('holdfast pages show')", p.Names()[0])
	}
	c, _ := ctx.Value(callerKey{}).(caller)
	return passkey.Page{Name: name, Origin: "https://" + name + portOf(c.host)}, nil
}

func (s *Server) passkeyRoutes() {
	act(s, s.operation("POST", passkeyPath+"/begin", "passkey-login-begin", "Begin to log in with a passkey", 200), func(ctx context.Context, _ *none) (v1.CeremonyBegin, error) {
		page, err := s.passkeyPage(ctx)
		if err != nil {
			return v1.CeremonyBegin{}, err
		}
		b, err := s.passkeys.BeginLogin(page, addressFrom(ctx))
		return v1.CeremonyBegin{ID: b.ID, Options: b.Options}, err
	})
	huma.Register(s.api, s.operation("POST", passkeyPath, "passkey-login", "Log in with what a device with a passkey has answered; the session is a cookie", 200),
		func(ctx context.Context, in *request[v1.PasskeyLogin]) (*loggedIn, error) {
			return s.letIn(func(a *account.Store, from string) (*account.Principal, string, error) {
				page, err := s.passkeyPage(ctx)
				if err == nil {
					err = checkAnswer(in.Body.Answer)
				}
				if err != nil {
					return nil, "", err
				}
				name, k, err := s.passkeys.FinishLogin(in.Body.ID, page, in.Body.Answer, a.ByHandle)
				if err != nil {
					return nil, "", err
				}
				noteOf(ctx).object = name
				return a.LoginPasskey(name, k, from)
			}, ctx)
		})

	type ref struct {
		UserRef
		Passkey string `path:"passkey" maxLength:"64" doc:"Its id"`
	}
	withAccounts(s, "GET", "/v1/users/{user}/passkeys", "passkey-list", "The passkeys of a user: the caller's own, or of whom the caller administers", 200, func(_ context.Context, a *account.Store, who *account.Principal, in *UserRef) ([]v1.Passkey, error) {
		u, err := ownOrManaged(a, who, in.User)
		return render(u.Passkeys, renderPasskey), err
	})
	withAccounts(s, "POST", "/v1/users/{user}/passkeys/begin", "passkey-begin", "Begin to make a passkey of the caller's", 200, func(ctx context.Context, a *account.Store, who *account.Principal, in *struct {
		UserRef
		Body v1.PasskeyBegin
	}) (v1.CeremonyBegin, error) {
		page, err := s.makesPasskeys(ctx, who, in.User)
		if err != nil {
			return v1.CeremonyBegin{}, err
		}
		if err := ownPassword(a, who, in.Body.Password, "the password is wrong"); err != nil {
			return v1.CeremonyBegin{}, err
		}
		u, err := a.PasskeyOwner(in.User)
		if err != nil {
			return v1.CeremonyBegin{}, err
		}
		b, err := s.passkeys.BeginMake(page, u, addressFrom(ctx))
		return v1.CeremonyBegin{ID: b.ID, Options: b.Options}, err
	})
	withAccounts(s, "POST", "/v1/users/{user}/passkeys", "passkey-add", "Add the passkey that a device of the caller's has made", 201, func(ctx context.Context, a *account.Store, who *account.Principal, in *struct {
		UserRef
		Body v1.PasskeySpec
	}) (v1.Passkey, error) {
		page, err := s.makesPasskeys(ctx, who, in.User)
		if err == nil {
			err = checkAnswer(in.Body.Answer)
		}
		if err != nil {
			return v1.Passkey{}, err
		}
		u, err := a.PasskeyOwner(in.User)
		if err != nil {
			return v1.Passkey{}, err
		}
		k, err := s.passkeys.FinishMake(in.Body.ID, page, u, in.Body.Answer)
		if err != nil {
			return v1.Passkey{}, err
		}
		k.Name = in.Body.Name
		if err := a.AddPasskey(in.User, k); err != nil {
			return v1.Passkey{}, err
		}
		k.Created = time.Now().UTC().Truncate(time.Second)
		return renderPasskey(k), nil
	})
	doAccounts(s, "DELETE", "/v1/users/{user}/passkeys/{passkey}", "passkey-remove", "Make a passkey useless; sessions go on", func(a *account.Store, who *account.Principal, in *ref) error {
		if _, err := ownOrManaged(a, who, in.User); err != nil {
			return err
		}
		return a.RemovePasskey(in.User, in.Passkey)
	})
}

// makesPasskeys refuses whoever is not that user, in a session.
func (s *Server) makesPasskeys(ctx context.Context, who *account.Principal, user string) (passkey.Page, error) {
	if who.Kind != "user" || who.Session == nil || who.Name != user {
		return passkey.Page{}, holdfast.Errorf(holdfast.Denied, "people make passkeys for themselves, logged in at a page")
	}
	return s.passkeyPage(ctx)
}

// ownOrManaged returns a user that is the caller, or that the caller may change; others
// are not there.
func ownOrManaged(a *account.Store, who *account.Principal, name string) (account.UserInfo, error) {
	if who.Kind == "user" && who.Name == name {
		return a.User(name)
	}
	return managed(a, who, name)
}

func checkAnswer(b json.RawMessage) error {
	if len(b) > passkey.MaxAnswer {
		return holdfast.Errorf(holdfast.Invalid, "answer: %d bytes, at most %d are read", len(b), passkey.MaxAnswer)
	}
	return nil
}

func renderPasskey(k account.Passkey) v1.Passkey {
	out := v1.Passkey{ID: k.Ref(), Name: k.Name, Site: k.Site, Synced: k.Synced, Created: k.Created}
	if !k.Used.IsZero() {
		out.Used = &k.Used
	}
	return out
}
