package account

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func somePasskey(n int) Passkey {
	return Passkey{ID: base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "device %d", n)), Name: fmt.Sprint("phone ", n), Site: "field.local", Key: []byte{1}, Count: 1}
}

func TestPasskeysOfAUser(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		_, err := s.PasskeyOwner("nobody")
		sc.kind(err, holdfast.NotFound)
		sc.kind(s.AddPasskey("ann", somePasskey(0)), holdfast.NotFound) // nothing was begun
		u, err := s.PasskeyOwner("ann")
		sc.ok(err)
		again, err := s.PasskeyOwner("ann")
		sc.ok(err)
		if u.Handle == "" || again.Handle != u.Handle || u.Password != "" {
			t.Errorf("handle %q, then %q", u.Handle, again.Handle)
		}
		sc.ok(s.AddPasskey("ann", somePasskey(0)))
		sc.kind(s.AddPasskey("ann", somePasskey(0)), holdfast.Exists)
		same := somePasskey(1)
		same.Name = somePasskey(0).Name
		sc.kind(s.AddPasskey("ann", same), holdfast.Exists)
		for _, bad := range []func(*Passkey){func(k *Passkey) { k.Name = "" }, func(k *Passkey) { k.Name = "a\nb" }, func(k *Passkey) { k.Name = strings.Repeat("a", MaxPasskeyName+1) },
			func(k *Passkey) { k.ID = "" }, func(k *Passkey) { k.ID = "*" }, func(k *Passkey) { k.Key = nil }, func(k *Passkey) { k.Key = make([]byte, maxPasskeyKey+1) }, func(k *Passkey) { k.Site = "" }} {
			k := somePasskey(1)
			bad(&k)
			sc.kind(s.AddPasskey("ann", k), holdfast.Invalid)
		}
	})
	sc.pass(time.Second)
	k := somePasskey(0)
	k.Count = 5
	sc.do(1, func(s *Store) { // another host knows it
		handle, err := s.User("ann")
		sc.ok(err)
		b, err := base64.RawURLEncoding.DecodeString(handle.Handle)
		sc.ok(err)
		if u, ok := s.ByHandle(b); !ok || u.Name != "ann" || u.Password != "" {
			t.Errorf("%+v, %v", u.Name, ok)
		}
		if _, ok := s.ByHandle(nil); ok {
			t.Error("no handle is somebody's")
		}
		who, secret, err := s.LoginPasskey("ann", k, here)
		sc.ok(err)
		if who.Name != "ann" || who.Role != ClusterAdmin || secret == "" {
			t.Errorf("%+v", who)
		}
		_, _, err = s.LoginPasskey("ann", k, here)
		sc.kind(err, holdfast.Denied) // the same count: another device has it, too
		_, _, err = s.LoginPasskey("ann", somePasskey(3), here)
		sc.kind(err, holdfast.Denied)
		_, _, err = s.LoginPasskey("nobody", k, here)
		sc.kind(err, holdfast.Denied)
	})
	sc.pass(time.Second)
	sc.do(0, func(s *Store) {
		u, err := s.User("ann")
		sc.ok(err)
		if len(u.Passkeys) != 1 || u.Passkeys[0].Count != 5 || u.Passkeys[0].Used.IsZero() || u.Passkeys[0].Created.IsZero() {
			t.Errorf("%+v", u.Passkeys)
		}
		sc.kind(s.RemovePasskey("ann", "none"), holdfast.NotFound)
		sc.ok(s.RemovePasskey("ann", u.Passkeys[0].Ref()))
		_, _, err = s.LoginPasskey("ann", Passkey{ID: k.ID, Count: 9}, here)
		sc.kind(err, holdfast.Denied)
		for n := range MaxPasskeys {
			sc.ok(s.AddPasskey("ann", somePasskey(n)))
		}
		sc.kind(s.AddPasskey("ann", somePasskey(99)), holdfast.Conflict)
		_, err = s.PasskeyOwner("ann")
		sc.kind(err, holdfast.Conflict)
	})
}

// Who had got into an account may have added a passkey: it goes when somebody else
// gives the user another password, and stays when the user does.
func TestPasskeysGoWithAPasswordThatSomebodyElseSets(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		sc.ok(s.AddUser("bob", Viewer, "", good))
		_, err := s.PasskeyOwner("bob")
		sc.ok(err)
		sc.ok(s.AddPasskey("bob", somePasskey(0)))
		who, _, err := s.Login("bob", good, here)
		sc.ok(err)
		sc.ok(s.SetPassword("bob", good+"!", who.Session.Hash))
		if u, err := s.User("bob"); err != nil || len(u.Passkeys) != 1 {
			t.Errorf("%d passkeys, %v", len(u.Passkeys), err)
		}
		sc.ok(s.SetPassword("bob", good+"?", ""))
		if u, err := s.User("bob"); err != nil || len(u.Passkeys) != 0 {
			t.Errorf("%d passkeys, %v", len(u.Passkeys), err)
		}
		_, _, err = s.LoginPasskey("bob", somePasskey(0), here)
		sc.kind(err, holdfast.Denied)
		sc.ok(s.AddPasskey("bob", somePasskey(1)))
		off := true
		sc.ok(s.SetUser("bob", UserChange{Disabled: &off}))
		k := somePasskey(1)
		k.Count = 7
		_, _, err = s.LoginPasskey("bob", k, here)
		sc.kind(err, holdfast.Denied)
	})
}

func TestPasskeysAreNotOnDisksInTheClear(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		_, err := s.PasskeyOwner("ann")
		sc.ok(err)
		sc.ok(s.AddPasskey("ann", somePasskey(0)))
		items, _, err := s.cfg.KV.Range(root)
		sc.ok(err)
		for _, it := range WithoutSecrets(items) {
			if strings.Contains(string(it.Value), somePasskey(0).ID) || strings.Contains(string(it.Value), `"handle"`) {
				t.Errorf("%s: %s", it.Key, it.Value)
			}
		}
		if !strings.Contains(string(valueOf(items, dirUser+"ann")), somePasskey(0).ID) {
			t.Error("it is in no record")
		}
	})
}

func valueOf(items []kv.Item, key string) []byte {
	for _, it := range items {
		if it.Key == key {
			return it.Value
		}
	}
	return nil
}
