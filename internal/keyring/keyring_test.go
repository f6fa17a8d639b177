package keyring

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

var db = holdfast.VolumeID{UUID: holdfast.UUID{1}}

func key(b byte) Key { return Key(bytes.Repeat([]byte{b}, KeySize)) }

func wrap(t testing.TB, cluster, data Key, vol holdfast.VolumeID) Wrapped {
	w, err := Wrap(&cluster, vol, &data, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAWrappedKeyOpensUnderItsClusterKeyForItsVolumeOnly(t *testing.T) {
	cluster, data := key(1), key(2)
	w := wrap(t, cluster, data, db)
	if got, err := w.Unwrap(&cluster); err != nil || got != data {
		t.Fatal(err)
	}
	other := key(3)
	if _, err := w.Unwrap(&other); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("under another key: %v", err)
	}
	for what, change := range map[string]func(*Wrapped){
		"another volume": func(w *Wrapped) { w.Volume.UUID[3] ^= 1 },
		"another name":   func(w *Wrapped) { w.Under = other.ID() },
		"the nonce":      func(w *Wrapped) { w.Data[0] ^= 1 },
		"the ciphertext": func(w *Wrapped) { w.Data[20] ^= 1 },
		"the tag":        func(w *Wrapped) { w.Data[len(w.Data)-1] ^= 1 },
	} {
		bad := w
		bad.Data = bytes.Clone(w.Data)
		change(&bad)
		if _, err := bad.Unwrap(&cluster); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s was changed: %v", what, err)
		}
	}
	if again := wrap(t, cluster, data, db); bytes.Equal(again.Data, w.Data) {
		t.Error("a key wrapped twice is the same twice")
	}
}

func TestAKeyIsNeverShown(t *testing.T) {
	k := key(0x41)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %x %s %q %d", k, k, k, k, k, k, k), fmt.Sprintf("%v", struct{ K Key }{k}), k.LogValue().String(), slog.AnyValue(k).Resolve().String()} {
		if strings.Contains(s, "AAAA") || strings.Contains(s, "4141") || strings.Contains(s, "65 65") {
			t.Errorf("%q shows the key", s)
		}
	}
	if b, err := json.Marshal(k); err == nil {
		t.Errorf("it became %s", b)
	}
	if id := k.ID(); !id.Valid() || strings.Contains(string(id), "4141") {
		t.Error(id)
	}
}

func TestAPassphraseGivesTheSameKeyEverywhere(t *testing.T) {
	a := Argon{Salt: []byte("somesaltsomesalt"), Time: 1, MemoryKiB: 64, Threads: 1}
	one, err := a.Derive([]byte("correct horse battery\n"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := a.Derive([]byte("correct horse battery")); err != nil || one != two {
		t.Errorf("a line end counts: %v", err)
	}
	if two, _ := a.Derive([]byte("correct horse batterz")); one == two {
		t.Error("another passphrase gives the same key")
	}
	for _, p := range []string{"", "short", "\n\n", strings.Repeat("x", MaxPassphrase+1)} {
		if _, err := a.Derive([]byte(p)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%.10q: %v", p, err)
		}
	}
	for what, bad := range map[string]Argon{
		"no salt": {Time: 1, MemoryKiB: 64, Threads: 1}, "all memory": {Salt: a.Salt, Time: 1, MemoryKiB: 1 << 30, Threads: 1},
		"for ever": {Salt: a.Salt, Time: 1 << 30, MemoryKiB: 64, Threads: 1}, "no lanes": {Salt: a.Salt, Time: 1, MemoryKiB: 64},
	} {
		if _, err := bad.Derive([]byte("correct horse battery")); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestARingUnwrapsWhatItHasTheKeyFor(t *testing.T) {
	old, new := key(1), key(2)
	origin := holdfast.VolumeID{UUID: holdfast.UUID{9}}
	list := []Wrapped{wrap(t, old, key(10), db), wrap(t, old, key(11), origin)}
	r := NewRing()
	if _, err := r.Unwrap(list); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("without its key: %v", err)
	}
	if !r.Add(old) || r.Add(old) {
		t.Error("added once or twice")
	}
	got, err := r.Unwrap(list)
	if err != nil || got[db] != key(10) || got[origin] != key(11) {
		t.Error(err)
	}
	if _, err := r.Rewrap(list, new.ID(), rand.Reader); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("under a key that is not there: %v", err)
	}
	r.Add(new)
	list, err = r.Rewrap(list, new.ID(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Keep(new.ID())
	if r.Has(old.ID()) || len(r.IDs()) != 1 {
		t.Error("the old key is still there")
	}
	if got, err = r.Unwrap(list); err != nil || got[db] != key(10) || got[origin] != key(11) {
		t.Errorf("after the rotation: %v", err)
	}
}

func TestHostsLearnKeysThatTheyAskFor(t *testing.T) {
	a, b := NewRing(), NewRing()
	k, other := key(1), key(2)
	a.Add(k)
	asked := []ID{k.ID(), other.ID()}
	ids, err := DecodeQuestion(AppendQuestion(nil, asked))
	if err != nil || len(ids) != 2 || ids[0] != asked[0] || ids[1] != asked[1] {
		t.Fatalf("%v, %v", ids, err)
	}
	if n, err := b.Learn(a.Answer(ids), asked); n != 1 || err != nil || !b.Has(k.ID()) {
		t.Errorf("%d keys, %v", n, err)
	}
	if _, err := b.Learn(other[:], asked[:1]); !holdfast.IsKind(err, holdfast.Invalid) || b.Has(other.ID()) {
		t.Errorf("a key that nobody asked for: %v", err)
	}
}

func TestARecordThatBreaksTheRules(t *testing.T) {
	k := key(1)
	good := Source{ID: k.ID(), From: File}
	argon := Argon{Salt: make([]byte, 16), Time: 3, MemoryKiB: 65536, Threads: 4}
	for what, r := range map[string]Record{
		"none": {}, "a bad name": {Keys: []Source{{ID: "x", From: File}}}, "twice": {Keys: []Source{good, good}},
		"from nowhere": {Keys: []Source{{ID: good.ID}}}, "a passphrase without its parameters": {Keys: []Source{{ID: good.ID, From: Passphrase}}},
		"a file with parameters": {Keys: []Source{{ID: good.ID, From: File, Argon: &argon}}},
	} {
		if err := r.Check(); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok := Record{Keys: []Source{{ID: key2().ID(), From: Passphrase, Argon: &argon}, good}}
	if err := ok.Check(); err != nil || ok.Current().ID != good.ID {
		t.Error(err)
	}
}

func key2() *Key { k := key(2); return &k }

func FuzzAnswer(f *testing.F) {
	k := key(1)
	f.Add(k[:])
	f.Add([]byte("short"))
	f.Add(AppendQuestion(nil, []ID{k.ID()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewRing()
		if n, err := r.Learn(b, []ID{k.ID()}); err == nil && n > 0 && !bytes.Equal(b[:KeySize], k[:]) {
			t.Error("it learned another key")
		}
		if ids, err := DecodeQuestion(b); err == nil && !bytes.Equal(AppendQuestion(nil, ids), b) {
			t.Errorf("%x became %x", b, AppendQuestion(nil, ids))
		}
	})
}

func FuzzWrapped(f *testing.F) {
	w := wrap(f, key(1), key(2), db)
	b, _ := json.Marshal(w)
	f.Add(b)
	f.Add([]byte(`{"keys":[{"id":"x"}]}`))
	cluster := key(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		var w Wrapped
		if json.Unmarshal(b, &w) == nil && w.Check() == nil {
			_, _ = w.Unwrap(&cluster)
		}
		var r Record
		if json.Unmarshal(b, &r) == nil && r.Check() == nil && !r.Current().ID.Valid() {
			t.Error("a good record without a current key")
		}
	})
}
