package alert

import (
	"encoding/base64"
	"io"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/account"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	attempts    = 5
	secretBytes = 32
	idBytes     = 4 // of a message's id, beside its number
)

// Store reads and changes the receivers. Each call asks the map anew. Its methods may
// be called from any task.
type Store struct {
	KV    kv.Store
	Clock clock.Clock
	Rand  io.Reader // of secrets
}

// Info is a receiver as it may be shown, and how it is with it.
type Info struct {
	Receiver // Secret, Password and URL are empty
	Origin   string
	Open     int // alerts that it knows of
	Sent     time.Time
	Failing  time.Time // since when nothing arrives; zero: it does
	Error    string
}

// Info is a receiver that was told nothing, as it may be shown.
func (r Receiver) Info() Info {
	i := Info{Receiver: r}
	if r.Kind == Webhook {
		i.Origin = r.Origin()
	}
	i.Receiver.Secret, i.Receiver.Password, i.Receiver.URL = "", "", ""
	return i
}

func (r record) info() Info {
	i := r.Receiver.Info()
	i.Open, i.Sent, i.Failing, i.Error = len(r.Open), r.Sent, r.Failing, r.Error
	return i
}

func (s *Store) read() (all []record, bad []string, err error) {
	items, _, err := s.KV.Range(root)
	if err != nil {
		return nil, nil, err
	}
	all, bad = gather(items)
	return all, bad, nil
}

// List returns the receivers by name.
func (s *Store) List() ([]Info, error) {
	all, _, err := s.read()
	out := make([]Info, 0, len(all))
	for _, r := range all {
		out = append(out, r.info())
	}
	return out, err
}

// Show returns one. Kind NotFound.
func (s *Store) Show(name string) (Info, error) {
	r, err := s.find(name)
	return r.info(), err
}

// Receiver returns one with its secrets, to be told something. Kind NotFound.
func (s *Store) Receiver(name string) (Receiver, error) {
	r, err := s.find(name)
	return r.Receiver, err
}

func (s *Store) find(name string) (record, error) {
	all, _, err := s.read()
	if err != nil {
		return record{}, err
	}
	if i := slices.IndexFunc(all, func(r record) bool { return r.Name == name }); i >= 0 {
		return all[i], nil
	}
	return record{}, holdfast.Errorf(holdfast.NotFound, "there is no alert receiver %q: see 'holdfast alert receiver list'", clip(name, 63))
}

// Prepare completes a receiver that is to be added and checks it; a webhook without a
// secret is given one. Kinds: Invalid; Denied, its address is not public.
func (s *Store) Prepare(r Receiver) (Receiver, error) {
	if r.Kind == Webhook && r.Secret == "" {
		b := make([]byte, secretBytes)
		if _, err := io.ReadFull(s.Rand, b); err != nil {
			return r, holdfast.Errorf(holdfast.IO, "a secret: %w", err)
		}
		r.Secret = account.Secret(base64.RawURLEncoding.EncodeToString(b))
	}
	r.Created = s.Clock.Wall().UTC().Truncate(time.Second)
	return r, r.Check()
}

// Add adds what Prepare returned. Kinds: Exists; Conflict, there are too many.
func (s *Store) Add(r Receiver, dry bool) error {
	return s.change(func(all []record) ([]kv.Cond, []kv.Op, error) {
		if slices.ContainsFunc(all, func(x record) bool { return x.Name == r.Name }) {
			return nil, nil, holdfast.Errorf(holdfast.Exists, "there is an alert receiver %s already; change it with 'holdfast alert receiver set'", r.Name)
		}
		if len(all) >= MaxReceivers {
			return nil, nil, holdfast.Errorf(holdfast.Conflict, "there are %d alert receivers, as many as there may be; remove one", MaxReceivers)
		}
		if dry {
			return nil, nil, nil
		}
		return []kv.Cond{{Key: dirReceiver + r.Name}}, []kv.Op{{Key: dirReceiver + r.Name, Value: encode(r)}, {Key: dirTold + r.Name, Delete: true}}, nil
	})
}

// Set changes one by f, and returns what came of it. Kinds: NotFound, and those of
// Check; Invalid also if a password that was given for one server would go to another.
func (s *Store) Set(name string, dry bool, f func(*Receiver)) (info Info, err error) {
	err = s.change(func(all []record) ([]kv.Cond, []kv.Op, error) {
		i := slices.IndexFunc(all, func(x record) bool { return x.Name == name })
		if i < 0 {
			_, err := s.find(name)
			return nil, nil, err
		}
		rec := all[i]
		server, password := rec.Server, rec.Password
		f(&rec.Receiver)
		if rec.Server != server && rec.Password == password && password != "" {
			return nil, nil, holdfast.Errorf(holdfast.Invalid, "the password was given for %s: give it again with another server", server)
		}
		if err := rec.Check(); err != nil {
			return nil, nil, err
		}
		if info = rec.info(); dry {
			return nil, nil, nil
		}
		return []kv.Cond{{Key: dirReceiver + name, Mod: rec.mod}}, []kv.Op{{Key: dirReceiver + name, Value: encode(rec.Receiver)}}, nil
	})
	return info, err
}

// Remove removes one; nothing more is told it. Kind NotFound.
func (s *Store) Remove(name string, dry bool) error {
	return s.change(func(all []record) ([]kv.Cond, []kv.Op, error) {
		i := slices.IndexFunc(all, func(x record) bool { return x.Name == name })
		if i < 0 {
			_, err := s.find(name)
			return nil, nil, err
		}
		if dry {
			return nil, nil, nil
		}
		return []kv.Cond{{Key: dirReceiver + name, Mod: all[i].mod}}, []kv.Op{{Key: dirReceiver + name, Delete: true}, {Key: dirTold + name, Delete: true}}, nil
	})
}

// change has f decide on the newest records, again if somebody else was quicker.
func (s *Store) change(f func(all []record) ([]kv.Cond, []kv.Op, error)) error {
	for range attempts {
		all, _, err := s.read()
		if err != nil {
			return err
		}
		conds, ops, err := f(all)
		if err != nil || len(ops) == 0 {
			return err
		}
		if _, err = s.KV.Commit(conds, ops); !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "the alert receivers kept changing; try again")
}
