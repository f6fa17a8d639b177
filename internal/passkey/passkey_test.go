package passkey

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/passkey/passkeytest"
)

// hands is a clock that is set by hand.
type hands struct {
	clock.System
	now time.Duration
}

func (h *hands) Now() time.Duration { return h.now }

var page = Page{"field.local", "https://field.local:7440"}

// scene is a desk, and ann, who is to have passkeys.
type scene struct {
	*testing.T
	clk *hands
	d   *Desk
	ann account.User
}

func newScene(t *testing.T) *scene {
	s := &scene{T: t, clk: &hands{}}
	s.d = New(Config{Clock: s.clk, Rand: rand.Reader, Title: "Holdfast"})
	s.ann = account.User{Name: "ann", Role: account.Viewer, Handle: base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))}
	return s
}

// makes has a device make a passkey.
func (s *scene) makes(d *passkeytest.Device) (account.Passkey, error) {
	s.Helper()
	b, err := s.d.BeginMake(page, s.ann, "10.0.0.1")
	if err != nil {
		s.Fatal(err)
	}
	answer, err := d.Make(page.Origin, b.Options)
	if err != nil {
		s.Fatal(err)
	}
	k, err := s.d.FinishMake(b.ID, page, s.ann, answer)
	k.Name = "phone"
	return k, err
}

// proves has a device log in, at where it believes to be.
func (s *scene) proves(d *passkeytest.Device, at Page) (string, account.Passkey, error) {
	s.Helper()
	b, err := s.d.BeginLogin(at, "10.0.0.1")
	if err != nil {
		s.Fatal(err)
	}
	answer, err := d.Prove(at.Origin, b.Options)
	if err != nil {
		s.Fatal(err)
	}
	return s.d.FinishLogin(b.ID, at, answer, s.find)
}

func (s *scene) find(handle []byte) (account.User, bool) {
	return s.ann, base64.RawURLEncoding.EncodeToString(handle) == s.ann.Handle
}

func (s *scene) refused(err error, want string) {
	s.Helper()
	if !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(fmt.Sprint(err), want) {
		s.Errorf("%v, not a refusal with %q", err, want)
	}
}

func TestAPasskeyLogsItsUserIn(t *testing.T) {
	for _, d := range []*passkeytest.Device{{}, {Synced: true}, {Count: 1}} {
		s := newScene(t)
		k, err := s.makes(d)
		if err != nil {
			t.Fatal(err)
		}
		if k.Synced != d.Synced || k.Site != page.Name || k.Count != d.Count {
			t.Errorf("%+v", k)
		}
		s.ann.Passkeys = append(s.ann.Passkeys, k)
		if d.Count > 0 {
			d.Count = 9
		}
		name, used, err := s.proves(d, page)
		if err != nil || name != "ann" || used.ID != k.ID || used.Count != d.Count {
			t.Errorf("%s, %+v, %v", name, used, err)
		}
	}
}

func TestWhatIsNoPasskeyIsRefused(t *testing.T) {
	s := newScene(t)
	_, err := s.makes(&passkeytest.Device{Unverified: true})
	s.refused(err, "not accepted")
	phone := &passkeytest.Device{Count: 5}
	k, err := s.makes(phone)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.proves(phone, page)
	s.refused(err, "not known here") // it was not added
	s.ann.Passkeys = []account.Passkey{k}

	phone.Count = 6
	phone.Unverified = true
	_, _, err = s.proves(phone, page)
	s.refused(err, "not accepted")
	phone.Unverified = false
	_, _, err = s.proves(phone, Page{"other.local", "https://other.local:7440"})
	s.refused(err, "not known here") // at another name
	phone.Count = 5
	_, _, err = s.proves(phone, page)
	s.refused(err, "may have been copied")
	phone.Count, phone.Synced = 7, true
	_, _, err = s.proves(phone, page)
	s.refused(err, "not accepted") // what it is does not change
	phone.Synced = false
	stolen := *phone
	stolen.Handle = bytes.Repeat([]byte{8}, 32)
	_, _, err = s.proves(&stolen, page)
	s.refused(err, "not known here")

	b, err := s.d.BeginLogin(page, "x")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := phone.Prove("https://evil.example", b.Options) // a page that looks like ours
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.d.FinishLogin(b.ID, page, answer, s.find)
	s.refused(err, "not accepted")
}

func TestAnAnswerIsTakenOnceInTimeAndWhereItWasAskedFor(t *testing.T) {
	s := newScene(t)
	phone := &passkeytest.Device{}
	k, err := s.makes(phone)
	if err != nil {
		t.Fatal(err)
	}
	s.ann.Passkeys = []account.Passkey{k}
	begin := func() (Begun, []byte) {
		b, err := s.d.BeginLogin(page, "x")
		if err != nil {
			t.Fatal(err)
		}
		answer, err := phone.Prove(page.Origin, b.Options)
		if err != nil {
			t.Fatal(err)
		}
		return b, answer
	}
	b, answer := begin()
	_, _, err = s.d.FinishLogin(b.ID, Page{page.Name, "https://field.local:9"}, answer, s.find)
	s.refused(err, "begin again")
	_, err = s.d.FinishMake(b.ID, page, s.ann, answer)
	s.refused(err, "begin again") // it is no passkey that was to be made
	if _, _, err = s.d.FinishLogin(b.ID, page, answer, s.find); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.d.FinishLogin(b.ID, page, answer, s.find)
	s.refused(err, "has been used")
	other, _ := begin()
	_, _, err = s.d.FinishLogin(other.ID, page, answer, s.find)
	s.refused(err, "not accepted") // to another question
	b, answer = begin()
	s.clk.now += Life
	_, _, err = s.d.FinishLogin(b.ID, page, answer, s.find)
	s.refused(err, "have passed")
	for range maxPending + 40*maxFrom {
		if _, err = s.d.BeginLogin(page, fmt.Sprint(time.Now().UnixNano())); err != nil {
			break
		}
	}
	if !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("as many as anybody likes: %v", err)
	}
}

// FuzzAnswers: whatever a device answers, there is no panic, and no log-in.
func FuzzAnswers(f *testing.F) {
	d := New(Config{Clock: &hands{}, Rand: rand.Reader, Title: "Holdfast"})
	ann := account.User{Name: "ann", Handle: base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))}
	phone := &passkeytest.Device{}
	b, err := d.BeginMake(page, ann, "x")
	if err != nil {
		f.Fatal(err)
	}
	made, err := phone.Make(page.Origin, b.Options)
	if err != nil {
		f.Fatal(err)
	}
	k, err := d.FinishMake(b.ID, page, ann, made)
	if err != nil {
		f.Fatal(err)
	}
	ann.Passkeys = []account.Passkey{k}
	if b, err = d.BeginLogin(page, "x"); err != nil {
		f.Fatal(err)
	}
	proof, err := phone.Prove(page.Origin, b.Options)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made)
	f.Add(proof)
	f.Add([]byte(`{"id":"AA","rawId":"AA","type":"public-key","response":{"attestationObject":"o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YUA","clientDataJSON":"e30"}}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		b, err := d.BeginMake(page, ann, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.FinishMake(b.ID, page, ann, answer); err == nil {
			t.Fatal("an answer to no question made a passkey")
		}
		if b, err = d.BeginLogin(page, "x"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.FinishLogin(b.ID, page, answer, func([]byte) (account.User, bool) { return ann, true }); err == nil {
			t.Fatal("an answer to no question logged somebody in")
		}
	})
}
