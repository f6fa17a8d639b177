package account

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const issuer = "https://id.example/realm"

func settings(rules ...Rule) OIDC {
	return OIDC{Name: "Agency", Issuer: issuer, ClientID: "holdfast", ClientSecret: "hush", Rules: rules}
}

func TestRulesGiveRoles(t *testing.T) {
	o := settings(Rule{"groups", "it", ClusterAdmin, ""}, Rule{"realm_access.roles", "red", TenantAdmin, "red"}, Rule{"email", "eve@agency.example", Operator, ""}, Rule{"team", "a:b", Viewer, ""})
	if err := checkOIDC(&o); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"groups":["x","it"]}`:                                    "cluster-admin ",
		`{"groups":"it","team":"a:b"}`:                             "cluster-admin ",
		`{"groups":["IT","it "],"team":"a:b"}`:                     "viewer ",
		`{"realm_access":{"roles":["red"]}}`:                       "tenant-admin red",
		`{"realm_access.roles":["red"]}`:                           "tenant-admin red",
		`{"realm_access.roles":[],"realm_access":{"roles":"red"}}`: " ",
		`{"email":"eve@agency.example"}`:                           " ", // anybody may say so
		`{"email":"eve@agency.example","email_verified":true}`:     "operator ",
		`{"email":"eve@agency.example","email_verified":"true"}`:   "operator ",
		`{"email":"eve@agency.example","email_verified":1}`:        " ",
		`{"groups":{"it":true}}`:                                   " ",
		`{"groups":[["it"],{"it":1},null,7]}`:                      " ",
		`{"groups":true}`:                                          " ",
		`{}`:                                                       " ",
	} {
		var claims map[string]any
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		role, project, err := o.Place(claims)
		if got := string(role) + " " + project; got != want || (err == nil) != (role != "") || err != nil && !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	o.Domains = []string{"agency.example"}
	for mail, want := range map[string]bool{"a@agency.example": true, "a@AGENCY.example": true, "a@evil.example": false, "a@agency.example.evil.example": false,
		"a@agency.example@evil.example": false, "agency.example": false, "a@sub.agency.example": false, "": false} {
		for _, sure := range []bool{true, false} {
			_, _, err := o.Place(map[string]any{"groups": "it", "email": mail, "email_verified": sure})
			if (err == nil) != (want && sure) {
				t.Errorf("%q, verified %v: %v", mail, sure, err)
			}
		}
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	for what, f := range map[string]func(*OIDC){
		"name":     func(o *OIDC) { o.Name = "a\nb" },
		"issuer":   func(o *OIDC) { o.Issuer = "http://id.example" },
		"client":   func(o *OIDC) { o.ClientID = "" },
		"secret":   func(o *OIDC) { o.ClientSecret = Secret(strings.Repeat("x", 2000)) },
		"scopes":   func(o *OIDC) { o.Scopes = []string{"a b"} },
		"domains":  func(o *OIDC) { o.Domains = []string{"@agency.example"} },
		"claim":    func(o *OIDC) { o.Rules[0].Claim = "" },
		"value":    func(o *OIDC) { o.Rules[0].Value = "" },
		"role":     func(o *OIDC) { o.Rules[0].Role = "king" },
		"project":  func(o *OIDC) { o.Rules[0].Project = "red" },
		"rules":    func(o *OIDC) { o.Rules = make([]Rule, MaxRules+1) },
		"PEM":      func(o *OIDC) { o.CA = "x" },
		"CA":       func(o *OIDC) { o.CA = strings.Repeat("x", maxCA+1) },
		"of names": func(o *OIDC) { o.NameClaim = "\x00" },
	} {
		o := settings(Rule{"groups", "it", ClusterAdmin, ""})
		f(&o)
		if err := checkOIDC(&o); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestWhoComesByOpenIDConnect is what becomes of somebody whose groups change.
func TestWhoComesByOpenIDConnect(t *testing.T) {
	sc := founded(t)
	claims := func(groups ...any) map[string]any {
		return map[string]any{"preferred_username": "Eve.Example", "groups": groups}
	}
	sc.do(0, func(s *Store) {
		_, _, err := s.LoginOIDC(issuer, "7", claims("it"), here)
		sc.kind(err, holdfast.NotFound)
		sc.ok(s.SetProject("red", Share{}, true))
		sc.ok(s.SetOIDC(settings(Rule{"groups", "it", ClusterAdmin, ""}, Rule{"groups", "red", TenantAdmin, "red"}), true))
		_, _, err = s.LoginOIDC("https://evil.example", "7", claims("it"), here)
		sc.kind(err, holdfast.NotFound)

		_, _, err = s.LoginOIDC(issuer, "7", claims("cooks"), here)
		sc.kind(err, holdfast.Denied)
		if _, err := s.User("eve-example"); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Error("who has no role is a user")
		}
		who, secret, err := s.LoginOIDC(issuer, "7", claims("it"), here)
		sc.ok(err)
		if who.Name != "eve-example" || who.Role != ClusterAdmin || who.Session == nil {
			t.Errorf("%+v", who)
		}
		_, token, err := s.CreateToken(who, "t", TenantAdmin, "red", time.Hour)
		sc.ok(err)
		if _, err := s.SetupLink(); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Error("ann with her password is not there")
		}
		sc.kind(s.DeleteUser("ann"), holdfast.Conflict) // eve's issuer may be away when somebody is needed
		sc.kind(s.SetPassword("eve-example", good, ""), holdfast.Conflict)
		role := Viewer
		sc.kind(s.SetUser("eve-example", UserChange{Role: &role}), holdfast.Conflict)
		_, _, err = s.Login("eve-example", "", here)
		sc.kind(err, holdfast.Denied)

		// Another role: what was open is that now.
		_, again, err := s.LoginOIDC(issuer, "7", claims("red"), here)
		sc.ok(err)
		who, err = s.Session(secret, here)
		sc.ok(err)
		if who.Role != TenantAdmin || who.Project != "red" {
			t.Errorf("%+v", who)
		}
		sc.kind(s.DeleteProject("red", func(string) bool { return true }), holdfast.Conflict)

		// None: all of it ends.
		_, _, err = s.LoginOIDC(issuer, "7", claims(), here)
		sc.kind(err, holdfast.Denied)
		for _, x := range []string{secret, again} {
			_, err = s.Session(x, here)
			sc.kind(err, holdfast.Denied)
		}
		_, err = s.Token(token, here)
		sc.kind(err, holdfast.Denied)

		// Somebody else of the same name is somebody else, and nobody is taken over.
		who, _, err = s.LoginOIDC(issuer, "8", claims("red"), here)
		sc.ok(err)
		if !strings.HasPrefix(who.Name, "eve-example-") {
			t.Errorf("%+v", who)
		}
		who, _, err = s.LoginOIDC(issuer, "9", map[string]any{"preferred_username": "ann", "groups": "it"}, here)
		sc.ok(err)
		if !strings.HasPrefix(who.Name, "ann-") {
			t.Errorf("%+v", who)
		}
		who, _, err = s.LoginOIDC(issuer, "10", map[string]any{"preferred_username": "☃", "groups": "it"}, here)
		sc.ok(err)
		if !strings.HasPrefix(who.Name, "user-") {
			t.Errorf("%+v", who)
		}

		// Locked out by an administrator, whatever the issuer says.
		yes := true
		sc.ok(s.SetUser(who.Name, UserChange{Disabled: &yes}))
		_, _, err = s.LoginOIDC(issuer, "10", map[string]any{"groups": "it"}, here)
		sc.kind(err, holdfast.Denied)

		// The issuer is asked no more.
		_, secret, err = s.LoginOIDC(issuer, "7", claims("it"), here)
		sc.ok(err)
		who, err = s.Session(secret, here)
		sc.ok(err)
		_, token, err = s.CreateToken(who, "u", Viewer, "", MaxTokenLife)
		sc.ok(err)
		sc.ok(s.DeleteOIDC())
		_, err = s.Session(secret, here)
		sc.kind(err, holdfast.Denied)
		_, err = s.Token(token, here)
		sc.kind(err, holdfast.Denied)
		sc.kind(s.DeleteOIDC(), holdfast.NotFound)
		_, _, err = s.Login("ann", good, here)
		sc.ok(err)
	})
}

func TestTheSecretOfTheClientStaysWhereItIs(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		o := settings()
		sc.ok(s.SetOIDC(o, true))
		o.ClientSecret = ""
		sc.ok(s.SetOIDC(o, true))
		if now, _ := s.OIDC(); now.ClientSecret != "hush" {
			t.Error("it was not kept")
		}
		other := o
		other.Issuer = "https://evil.example"
		sc.kind(s.SetOIDC(other, true), holdfast.Invalid) // it would be sent there
		other = o
		other.ClientID = "x"
		sc.kind(s.SetOIDC(other, true), holdfast.Invalid)
		sc.ok(s.SetOIDC(o, false))
		if now, _ := s.OIDC(); now.ClientSecret != "" {
			t.Error("it was kept")
		}
		o.Rules = []Rule{{"groups", "x", Viewer, "blue"}}
		sc.kind(s.SetOIDC(o, true), holdfast.NotFound)
	})
	o := settings()
	b, err := oidcKind().encode(&o)
	if err != nil {
		t.Fatal(err)
	}
	clear := WithoutSecrets([]kv.Item{{Key: keyOIDC, Value: b}, {Key: keyOIDC + "x", Value: []byte("{}")}})
	if len(clear) != 2 || strings.Contains(string(clear[0].Value), "hush") || !strings.Contains(string(clear[0].Value), issuer) {
		t.Errorf("in the clear: %s", clear[0].Value)
	}
}

// FuzzClaims: whatever an issuer says gives a role of a rule or none, and a name that
// is one.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"preferred_username":"Eve Example","groups":["it"],"a":{"b":{"c":"d"}}}`))
	f.Add([]byte(`{"email":"@","email_verified":"true","groups":{"it":[]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var claims map[string]any
		if json.Unmarshal(text, &claims) != nil {
			return
		}
		o := settings(Rule{"groups", "it", Operator, ""}, Rule{"a.b.c", "d", TenantAdmin, "red"}, Rule{"email", "x", Viewer, ""})
		role, project, err := o.Place(claims)
		if err == nil && CheckPlace(role, project) != nil || err != nil && role != "" {
			t.Fatalf("%s: %q %q %v", text, role, project, err)
		}
		p := emptyPicture()
		name := p.nameFor(o, issuer, "1", claims)
		p.users[name] = versioned[User]{}
		for _, n := range []string{name, p.nameFor(o, issuer, "1", claims)} {
			if err := holdfast.CheckName("user", n); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	})
}

// TestWhatWasEndedStaysEnded: sessions and tokens of who came by an issuer end when it
// is not asked any more, and do not come back with it.
func TestWhatWasEndedStaysEnded(t *testing.T) {
	for what, away := range map[string]func(*Store) error{
		"deleted":         func(s *Store) error { return s.DeleteOIDC() },
		"another's place": func(s *Store) error { o := settings(); o.Issuer += "/other"; return s.SetOIDC(o, false) },
	} {
		t.Run(what, func(t *testing.T) {
			sc := founded(t)
			rule := Rule{"groups", "it", ClusterAdmin, ""}
			claims := map[string]any{"groups": "it", "preferred_username": "eve"}
			var session, token string
			sc.do(0, func(s *Store) {
				sc.ok(s.SetOIDC(settings(rule), false))
				who, secret, err := s.LoginOIDC(issuer, "1", claims, "10.0.0.1")
				sc.ok(err)
				session = secret
				_, token, err = s.CreateToken(who, "t", Viewer, "", time.Hour)
				sc.ok(err)
			})
			ended := func(when string) {
				sc.pass(time.Second)
				sc.do(0, func(s *Store) {
					if p, err := s.Session(session, ""); !holdfast.IsKind(err, holdfast.Denied) {
						t.Errorf("%s: the session is that of %v, %v", when, p, err)
					}
					if p, err := s.Token(token, ""); !holdfast.IsKind(err, holdfast.Denied) {
						t.Errorf("%s: the token is that of %v, %v", when, p, err)
					}
				})
			}
			sc.do(0, func(s *Store) { sc.ok(away(s)) })
			ended("when it is not asked any more")
			sc.do(0, func(s *Store) { sc.ok(s.SetOIDC(settings(rule), false)) })
			ended("when it is asked again")
			sc.do(0, func(s *Store) {
				_, fresh, err := s.LoginOIDC(issuer, "1", claims, "10.0.0.1")
				sc.ok(err)
				sc.ok(s.SetOIDC(settings(), true)) // a change at the same issuer ends nothing
				if p, err := s.Session(fresh, ""); err != nil || p.Name != "eve" {
					t.Errorf("a new session: %v, %v", p, err)
				}
			})
			ended("after a new log-in")
		})
	}
}
