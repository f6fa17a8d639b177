package kept

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func key(b byte) keyring.Key { return keyring.Key(bytes.Repeat([]byte{b}, keyring.KeySize)) }

func sample(rev kv.Rev) Copy {
	return Copy{Head: Head{Cluster: holdfast.ClusterID{UUID: holdfast.UUID{1}}, Name: "field", Host: holdfast.HostID{UUID: holdfast.UUID{2}}, Rev: rev,
		Made: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		Items: []kv.Item{{Key: "holdfast/2/authority", Value: []byte("secret of the authority"), Mod: 1}, {Key: "holdfast/2/cluster", Value: []byte("{}"), Mod: rev}}}
}

func seal(t testing.TB, c Copy, k keyring.Key) []byte {
	b, err := Seal(c, k, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestACopyOpensUnderItsKeyAlone(t *testing.T) {
	c := sample(7)
	b := seal(t, c, key(1))
	got, err := Open(b, key(1))
	if err != nil || got.Format != Format || got.Rev != 7 || !reflect.DeepEqual(got.Items, c.Items) {
		t.Fatalf("%+v, %v", got, err)
	}
	if h, err := ReadHead(b); err != nil || h.Name != "field" || h.Rev != 7 {
		t.Errorf("the head: %+v, %v", h, err)
	}
	if _, err := Open(b, key(2)); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("another key: %v", err)
	}
	if bytes.Contains(b, []byte("secret of")) {
		t.Error("a record can be read without the key")
	}
	if bytes.Equal(b, seal(t, c, key(1))) {
		t.Error("two copies of the same are sealed alike")
	}
}

func TestACopyMayBringItsKey(t *testing.T) {
	c, k := sample(7), key(3)
	c.Head.Open = k[:]
	b := seal(t, c, k)
	h, err := ReadHead(b)
	if err != nil || len(h.Open) != len(k) {
		t.Fatalf("%+v, %v", h, err)
	}
	if got, err := Open(b, keyring.Key(h.Open)); err != nil || len(got.Items) != len(c.Items) {
		t.Errorf("%+v, %v", got, err)
	}
	c.Head.Open = k[:5]
	if _, err := ReadHead(seal(t, c, k)); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("half a key: %v", err)
	}
	c.Head.Open = k[:]
	b = seal(t, c, k)
	b = bytes.Replace(b, fmt.Appendf(nil, `"open":"%s"`, base64.StdEncoding.EncodeToString(k[:])), fmt.Appendf(nil, `"open":""%44s`, ""), 1)
	sum := sha256.Sum256(b[:len(b)-sha256.Size]) // whoever forges a copy can sum it, too
	copy(b[len(b)-sha256.Size:], sum[:])
	if h, err := ReadHead(b); err != nil || h.Open != nil {
		t.Errorf("no key: %v, %v", h.Open, err)
	}
}

func TestEveryDamageIsNoticed(t *testing.T) {
	b := seal(t, sample(7), key(1))
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := Open(bad, key(1)); err == nil {
			t.Fatalf("a changed byte at %d was not noticed", i)
		}
	}
	for n := range b {
		if _, err := ReadHead(b[:n]); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestATornWriteLeavesTheOlderCopy(t *testing.T) {
	s := Shelf{Dir: filepath.Join(t.TempDir(), "kept")}
	if _, _, _, err := s.Newest(); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("an empty shelf: %v", err)
	}
	for rev := kv.Rev(1); rev <= 5; rev++ {
		if err := s.Put(seal(t, sample(rev), key(1))); err != nil {
			t.Fatal(err)
		}
		if _, h, _, err := s.Newest(); err != nil || h.Rev != rev {
			t.Fatalf("revision %d: %+v, %v", rev, h, err)
		}
	}
	newest := ""
	for _, p := range places() {
		if h, err := s.head(p); err == nil && h.Rev == 5 {
			newest = filepath.Join(s.Dir, p)
		}
	}
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(newest, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, h, _, err := s.Newest(); err != nil || h.Rev != 4 {
		t.Errorf("after a torn write: %+v, %v", h, err)
	}
	if err := s.Put(seal(t, sample(6), key(1))); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(newest); err != nil {
		t.Fatal(err)
	} else if h, err := ReadHead(b); err != nil || h.Rev != 6 {
		t.Errorf("what is torn is not what is replaced: %+v, %v", h, err)
	}
}

func TestALaterIncarnationIsNewerWhateverItsRevision(t *testing.T) {
	old, rebuilt := Head{Rev: 900}, Head{Incarnation: 1, Rev: 3}
	if !rebuilt.Newer(&old) || old.Newer(&rebuilt) || old.Newer(&old) {
		t.Error("copies are in the wrong order")
	}
}

func TestTheHostsKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	if _, err := HostKey(dir, false, rand.Reader); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("without one: %v", err)
	}
	a, err := HostKey(dir, true, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := HostKey(dir, false, nil); err != nil || b != a {
		t.Errorf("it is another the second time: %v", err)
	}
	if st, err := os.Stat(filepath.Join(dir, KeyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func FuzzCopy(f *testing.F) {
	f.Add(seal(f, sample(7), key(1)))
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Open(b, key(1)); err == nil {
			if again, err := Open(seal(t, c, key(1)), key(1)); err != nil || !reflect.DeepEqual(again.Items, c.Items) {
				t.Errorf("what was read cannot be written again: %v", err)
			}
		}
	})
}

func FuzzItems(f *testing.F) {
	b, _ := encode(sample(7).Items)
	f.Add(b)
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		items, err := decode(b)
		if err != nil {
			return
		}
		if again, err := encode(items); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
