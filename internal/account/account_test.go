package account

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is a world with a control plane and two hosts that know its accounts.
type scene struct {
	*testing.T
	w      *simclock.World
	srv    *memkv.Server
	clk    [2]*simclock.Host
	kv     [2]*memkv.Handle
	s      [2]*Store
	logged strings.Builder
	made   int // hashes
}

const (
	good = "correct horse battery"
	here = "192.0.2.1"
	away = "198.51.100.7"
)

func newScene(t *testing.T) *scene {
	sc := &scene{T: t, w: simclock.NewWorld(1)}
	sc.srv = memkv.NewServer(memkv.Config{Clock: sc.w.Clock(), Rand: sc.w.Rand})
	for i := range sc.s {
		name := string(rune('a' + i))
		sc.clk[i] = sc.w.Host(name, simclock.Skew{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
		sc.kv[i] = sc.srv.Handle(name, sc.clk[i])
		sc.s[i] = Open(Config{KV: sc.kv[i], Clock: sc.clk[i], Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(&sc.logged, nil))})
		sc.s[i].hasher.kdf = func(p, salt []byte, tm, mem uint32, lanes uint8, n uint32) []byte {
			sc.made++
			if tm != argonTime || mem != argonMemory || lanes != argonLanes {
				t.Errorf("a hash of %d passes, %d KiB, %d lanes", tm, mem, lanes)
			}
			out := make([]byte, n) // quick, and enough for a story
			copy(out, p)
			return out
		}
	}
	t.Cleanup(func() { sc.w.Close(sc.clk[:]...) })
	return sc
}

// do runs f as a task of a host.
func (sc *scene) do(host int, f func(s *Store)) {
	sc.Helper()
	done := false
	sc.clk[host].Go(func() { f(sc.s[host]); done = true })
	if !sc.w.RunUntil(func() bool { return done }, sc.w.Now()+time.Hour) {
		sc.Fatal("the task did not end")
	}
}

func (sc *scene) pass(d time.Duration) { sc.w.Run(sc.w.Now() + d) }

func (sc *scene) ok(err error) {
	sc.Helper()
	if err != nil {
		sc.Fatal(err)
	}
}

func (sc *scene) kind(err error, want holdfast.Kind) {
	sc.Helper()
	if !holdfast.IsKind(err, want) {
		sc.Fatalf("%v, want an error of kind %q", err, want)
	}
}

// founded is a scene with an administrator ann.
func founded(t *testing.T) *scene {
	sc := newScene(t)
	sc.do(0, func(s *Store) { sc.ok(s.AddUser("ann", ClusterAdmin, "", good)) })
	sc.pass(time.Second)
	return sc
}

func TestTheSetUpLinkMakesOneAdministrator(t *testing.T) {
	sc := newScene(t)
	var first, second string
	sc.do(0, func(s *Store) {
		var err error
		first, err = s.SetupLink()
		sc.ok(err)
		second, err = s.SetupLink()
		sc.ok(err)
	})
	sc.pass(time.Second)
	sc.do(1, func(s *Store) {
		_, _, err := s.Setup(first, "ann", good, here)
		sc.kind(err, holdfast.Denied) // void since another was printed
		_, _, err = s.Setup("", "ann", good, here)
		sc.kind(err, holdfast.Denied)
		_, _, err = s.Setup(second, "ann", "short", here)
		sc.kind(err, holdfast.Invalid) // and the link is not used up
		who, secret, err := s.Setup(second, "ann", good, here)
		sc.ok(err)
		if who.Role != ClusterAdmin || who.Name != "ann" || secret == "" {
			t.Fatalf("%+v", who)
		}
		_, _, err = s.Setup(second, "bob", good, here)
		sc.kind(err, holdfast.Denied)
		_, err = s.SetupLink()
		sc.kind(err, holdfast.Conflict)
	})
}

func TestASessionEndsByItselfAndByHand(t *testing.T) {
	sc := founded(t)
	login := func() (secret string) {
		sc.do(0, func(s *Store) {
			var err error
			_, secret, err = s.Login("ann", good, here)
			sc.ok(err)
		})
		sc.pass(time.Second)
		return secret
	}
	alive := func(host int, secret string, want bool) {
		t.Helper()
		sc.do(host, func(s *Store) {
			if _, err := s.Session(secret, here); (err == nil) != want {
				t.Fatalf("after %v: %v", sc.w.Now(), err)
			}
		})
	}
	idle := login()
	alive(1, idle, true)
	sc.pass(SessionIdle + time.Minute)
	alive(0, idle, false)
	alive(1, idle, false)

	used := login()
	for range 23 {
		sc.pass(30 * time.Minute)
		alive(1, used, true)
	}
	sc.pass(31 * time.Minute)
	alive(1, used, false) // twelve hours are over, though it was used

	revoked := login()
	sc.do(1, func(s *Store) { sc.ok(s.EndSession(hashOf(revoked))) })
	alive(1, revoked, false)
	sc.pass(time.Second)
	alive(0, revoked, false)

	for what, f := range map[string]func(s *Store) error{
		"another password": func(s *Store) error { return s.SetPassword("ann", good+"!", "") },
		"the same again":   func(s *Store) error { return s.SetPassword("ann", good, "") },
	} {
		secret := ""
		sc.do(0, func(s *Store) {
			var err error
			if _, secret, err = s.Login("ann", good, here); err != nil {
				_, secret, err = s.Login("ann", good+"!", here)
			}
			sc.ok(err)
			sc.ok(f(s))
		})
		t.Log(what)
		alive(0, secret, false)
	}
}

func TestSessionsOfOneUserAreBounded(t *testing.T) {
	sc := founded(t)
	var secrets []string
	sc.do(0, func(s *Store) {
		for range MaxSessions + 1 {
			_, secret, err := s.Login("ann", good, here)
			sc.ok(err)
			secrets = append(secrets, secret)
		}
		if n := len(s.Sessions()); n != MaxSessions {
			t.Fatalf("%d sessions", n)
		}
		_, err := s.Session(secrets[0], here)
		sc.kind(err, holdfast.Denied)
		_, err = s.Session(secrets[1], here)
		sc.ok(err)
	})
}

func TestGuessingIsSlowAndLocksNobodyOutForEver(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		_, _, err := s.Login("ann", good, here) // from here she is known
		sc.ok(err)
		tries := 0
		for i := range 1000 {
			_, _, err := s.Login("ann", "guess "+strings.Repeat("x", i%50), away)
			var many *TooMany
			if errors.As(err, &many) {
				if many.After <= 0 {
					t.Fatal("when to try again is not said")
				}
				continue
			}
			sc.kind(err, holdfast.Denied)
			tries++
		}
		if tries != userBurst {
			t.Fatalf("%d guesses were looked at", tries)
		}
		_, _, err = s.Login("ann", good, away)
		sc.kind(err, holdfast.Busy) // the right one, too: the answer tells nothing
		_, _, err = s.Login("ann", good, here)
		sc.ok(err) // she herself gets in all the while
		_, _, err = s.Login("ann", good, "::ffff:"+here)
		sc.ok(err)
	})
	sc.pass(userEvery + time.Second)
	sc.do(0, func(s *Store) {
		_, _, err := s.Login("ann", good, away)
		sc.ok(err)
	})
	// One address that tries many names is held up, too, whoever they are.
	sc.do(1, func(s *Store) {
		tries := 0
		for i := range 1000 {
			_, _, err := s.Login("user"+strings.Repeat("x", i%40), "guess", "2001:db8::"+string("0123456789abcdef"[i%16]))
			if holdfast.IsKind(err, holdfast.Denied) {
				tries++
			}
		}
		if tries != fromBurst {
			t.Fatalf("%d guesses of one network were looked at", tries)
		}
	})
}

func TestAnAnswerDoesNotTellWhetherThereIsSuchAUser(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		sc.ok(s.AddUser("bob", Viewer, "", "")) // has no password
		sc.ok(s.AddUser("eve", Viewer, "", good))
		yes := true
		sc.ok(s.SetUser("eve", UserChange{Disabled: &yes}))
		var texts []string
		for _, try := range [][2]string{{"ann", "wrong"}, {"bob", ""}, {"bob", "wrong"}, {"eve", good}, {"nobody", "wrong"}, {"../x\x00", "wrong"}, {"ann", strings.Repeat("x", 5000)}} {
			before := sc.made
			_, _, err := s.Login(try[0], try[1], away)
			sc.kind(err, holdfast.Denied)
			if sc.made != before+1 {
				t.Errorf("%q: %d hashes were made", try[0], sc.made-before)
			}
			texts = append(texts, err.Error())
		}
		for _, x := range texts {
			if x != texts[0] {
				t.Errorf("%q and %q", x, texts[0])
			}
		}
	})
}

func TestAFloodOfLogInsWaitsInALineThatEnds(t *testing.T) {
	h := hasher{random: rand.Reader}
	begun, goOn := make(chan struct{}, maxWaiting), make(chan struct{})
	working := 0
	h.kdf = func(_, _ []byte, _, _ uint32, _ uint8, n uint32) []byte {
		if working++; working > 1 {
			t.Error("two hashes are made at once")
		}
		begun <- struct{}{}
		<-goOn
		working--
		return make([]byte, n)
	}
	done := make(chan error)
	for range maxWaiting {
		go func() { _, err := h.matches("", "x"); done <- err }()
	}
	<-begun
	for { // until all others wait
		h.mu.Lock()
		n := h.waiting
		h.mu.Unlock()
		if n == maxWaiting {
			break
		}
	}
	if _, err := h.matches("", "x"); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("one more: %v", err)
	}
	close(goOn)
	for range maxWaiting {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestATokenIsNoMoreThanItsOwner(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		sc.ok(s.AddUser("bob", Operator, "", good))
		bob := &Principal{Kind: "user", Name: "bob", Role: Operator}
		_, _, err := s.CreateToken(bob, "t", ClusterAdmin, "", time.Hour)
		sc.kind(err, holdfast.Denied)
		_, _, err = s.CreateToken(bob, "t", Viewer, "", 2*MaxTokenLife)
		sc.kind(err, holdfast.Invalid)
		tok, text, err := s.CreateToken(bob, "t", Operator, "", time.Hour)
		sc.ok(err)
		if !strings.HasPrefix(text, TokenPrefix) || strings.Contains(tok.Hash, text) {
			t.Fatalf("%q", text)
		}
		who, err := s.Token(text, away)
		sc.ok(err)
		if who.Role != Operator || who.Kind != "token" {
			t.Fatalf("%+v", who)
		}
		for _, forged := range []string{"", TokenPrefix, text + "x", text[:len(text)-1] + "_", strings.TrimPrefix(text, TokenPrefix), tok.Hash, TokenPrefix + tok.Hash, strings.ToUpper(text)} {
			if forged == text {
				continue
			}
			_, err := s.Token(forged, away)
			sc.kind(err, holdfast.Denied)
		}
		viewer := Viewer
		sc.ok(s.SetUser("bob", UserChange{Role: &viewer}))
		_, err = s.Token(text, away)
		sc.kind(err, holdfast.Denied)
		operator := Operator
		sc.ok(s.SetUser("bob", UserChange{Role: &operator}))
		_, err = s.Token(text, away)
		sc.ok(err)
	})
	sc.pass(time.Hour + time.Second)
	sc.do(0, func(s *Store) {
		bob := &Principal{Kind: "user", Name: "bob", Role: Operator}
		if all := s.Tokens(); len(all) != 1 {
			t.Fatal(all)
		}
		_, text, err := s.CreateToken(bob, "u", Viewer, "", time.Hour)
		sc.ok(err)
		sc.ok(s.DeleteUser("bob"))
		_, err = s.Token(text, away)
		sc.kind(err, holdfast.Denied)
		if all := s.Tokens(); len(all) != 0 {
			t.Fatal(all)
		}
	})
}

func TestAnExpiredAndARevokedTokenLetNobodyIn(t *testing.T) {
	sc := founded(t)
	root := &Principal{Kind: "socket", Role: ClusterAdmin}
	var text, other string
	var tok Token
	sc.do(0, func(s *Store) {
		var err error
		_, text, err = s.CreateToken(root, "short", Viewer, "", time.Hour)
		sc.ok(err)
		tok, other, err = s.CreateToken(root, "long", Viewer, "", 2*time.Hour)
		sc.ok(err)
	})
	sc.pass(time.Hour)
	for host := range sc.s {
		sc.do(host, func(s *Store) {
			_, err := s.Token(text, here)
			sc.kind(err, holdfast.Denied)
			_, err = s.Token(other, here)
			sc.ok(err)
		})
	}
	sc.do(1, func(s *Store) { sc.ok(s.RevokeToken(tok.Hash)) })
	sc.pass(time.Second)
	sc.do(0, func(s *Store) {
		_, err := s.Token(other, here)
		sc.kind(err, holdfast.Denied)
	})
}

func TestTheLastAdministratorStays(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		viewer, yes := Viewer, true
		sc.kind(s.DeleteUser("ann"), holdfast.Conflict)
		sc.kind(s.SetUser("ann", UserChange{Role: &viewer}), holdfast.Conflict)
		sc.kind(s.SetUser("ann", UserChange{Disabled: &yes}), holdfast.Conflict)
		sc.ok(s.AddUser("bob", ClusterAdmin, "", good))
		sc.ok(s.DeleteUser("ann"))
		sc.kind(s.DeleteUser("bob"), holdfast.Conflict)
	})
}

func TestWithTheControlPlaneAwayWhoIsInStaysIn(t *testing.T) {
	sc := founded(t)
	var secret string
	sc.do(0, func(s *Store) {
		var err error
		_, secret, err = s.Login("ann", good, here)
		sc.ok(err)
	})
	sc.srv.SetDown(true)
	sc.do(0, func(s *Store) {
		_, err := s.Session(secret, here)
		sc.ok(err)
		_, _, err = s.Login("ann", good, here)
		sc.kind(err, holdfast.Unavailable)
	})
	sc.srv.SetDown(false)
	sc.pass(10 * time.Second)
	sc.do(0, func(s *Store) {
		_, _, err := s.Login("ann", good, here)
		sc.ok(err)
	})
}

func TestSecretsAreNeitherLoggedNorKeptAsTheyAre(t *testing.T) {
	sc := founded(t)
	var secrets []string
	sc.do(0, func(s *Store) {
		_, secret, err := s.Login("ann", good, here)
		sc.ok(err)
		_, text, err := s.CreateToken(&Principal{Kind: "socket", Role: ClusterAdmin}, "t", Viewer, "", time.Hour)
		sc.ok(err)
		secrets = []string{secret, text, good}
		_, err = sc.kv[0].Commit(nil, []kv.Op{{Key: dirUser + "bad", Value: []byte(`{"name":"` + secret + `"}`)}})
		sc.ok(err)
	})
	sc.pass(time.Second)
	if !strings.Contains(sc.logged.String(), "user/bad") {
		t.Error("a record that cannot be read was not told of")
	}
	sc.do(0, func(s *Store) {
		items, _, err := sc.kv[0].Range("")
		sc.ok(err)
		for _, x := range secrets {
			if strings.Contains(sc.logged.String(), x) {
				t.Errorf("%s was logged", x)
			}
			for _, it := range items {
				if it.Key != dirUser+"bad" && strings.Contains(string(it.Value), x) {
					t.Errorf("%s holds a secret", it.Key)
				}
			}
		}
		for _, it := range WithoutSecrets(items) {
			if strings.Contains(string(it.Value), "argon2id") || strings.HasPrefix(it.Key, dirToken) || strings.HasPrefix(it.Key, dirSession) {
				t.Errorf("%s stands on disks in the clear", it.Key)
			}
		}
	})
}

func TestPasswordsAreReadAsTheyWereWritten(t *testing.T) {
	h := hasher{random: rand.Reader, kdf: Open(Config{KV: nothing{}, Clock: simclock.NewWorld(1).Host("x", simclock.Skew{})}).hasher.kdf}
	rec, err := h.hash(good)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseHash(string(rec)); err != nil || got.String() != string(rec) {
		t.Fatalf("%v, %v", got, err)
	}
	for try, want := range map[string]bool{good: true, good + " ": false, "": false} {
		if ok, err := h.matches(rec, try); err != nil || ok != want {
			t.Errorf("%q: %v, %v", try, ok, err)
		}
	}
	if text := rec.String(); text != "(secret)" {
		t.Errorf("it prints as %s", text)
	}
}

// nothing is a store that is never asked: its tasks never run.
type nothing struct{ kv.Store }

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHash(text)
		if err != nil {
			return
		}
		if h.String() != text || h.memory > maxArgonMemory || h.time > maxArgonTime || h.lanes > maxArgonLanes || h.lanes == 0 {
			t.Fatalf("%q became %+v", text, h)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add(dirUser+"ann", []byte(`{"name":"ann","role":"viewer"}`))
	f.Add(dirToken+strings.Repeat("a", 64), []byte(`{"hash":"`+strings.Repeat("a", 64)+`","name":"t","role":"viewer"}`))
	f.Add(dirSession+strings.Repeat("a", 64), []byte(`{"hash":"`+strings.Repeat("a", 64)+`","user":"ann"}`))
	f.Add(keySetup, []byte(`{"hash":"`+strings.Repeat("a", 64)+`"}`))
	f.Add(keyOIDC, []byte(`{"name":"a","issuer":"https://id.example","client_id":"c","rules":[{"claim":"groups","value":"it","role":"viewer"}]}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		p := emptyPicture()
		p.put(kv.Item{Key: key, Value: value, Mod: 1})
		for name, u := range p.users {
			if u.val.Name != name || key != dirUser+name || u.val.Role.Check() != nil {
				t.Fatalf("%q: %+v", key, u.val)
			}
		}
		for hash, x := range p.sessions {
			_ = x.val.ID()
			if x.val.Hash != hash {
				t.Fatal(key)
			}
		}
		for hash, x := range p.tokens {
			_ = x.val.ID()
			if x.val.Hash != hash {
				t.Fatal(key)
			}
		}
	})
}
