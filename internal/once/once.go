// Package once remembers in the cluster's map which requests that make something
// were made, by keys that their callers chose, so that a request that is sent again
// is not done again: not at another host either, when the one that was asked is lost.
package once

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	root = "holdfast/2/once/"
	// Kept is how long a key is remembered after its request came.
	Kept = 24 * time.Hour
	// running is how long a request counts as under way after its host was lost, and
	// renewEvery how often a host says that it is.
	running    = 30 * time.Second
	renewEvery = 8 * time.Second
	// most is how many keys are remembered of those that lie together, of 256 such
	// lots: what one request reads is bounded by it, and so are all.
	most   = 64
	suffix = "/run" // of the key that is there while the request is under way
)

// Record is what became of a request.
type Record struct {
	Sum    string    `json:"sum"`              // of the request, hexadecimal
	At     time.Time `json:"at"`               // when it came first
	Status int       `json:"status,omitempty"` // of its answer; 0: it is not known to be done
	Where  string    `json:"where,omitempty"`  // what it made; "": that cannot be read
}

// Log is the way of one host to the keys. It may be used from any goroutine.
type Log struct {
	KV    kv.Store
	Clock clock.Clock
}

// Claim is a request that is to be done now, by whoever has it. One of Finish,
// Release and Abandon ends it.
type Claim struct {
	Record
	Again bool // it was begun before, and nobody knows what came of it

	l    *Log
	key  string
	mod  kv.Rev
	kept kv.LeaseID
	run  kv.LeaseID
	stop clock.Event
	done clock.Event
}

// Begin claims a key of somebody's for a request with a sum, or returns what became
// of that. Kinds: Invalid, the key was given with another request; Busy, it is under
// way; NoSpace, too many are remembered; those of kv.Store.
func (l *Log) Begin(whose, key string, sum [sha256.Size]byte) (*Claim, *Record, error) {
	h := sha256.Sum256([]byte(whose + "\x00" + key))
	name := hex.EncodeToString(h[:])
	at := root + name[:2] + "/" + name
	var err error
	for range 3 {
		var items []kv.Item
		if items, _, err = l.KV.Range(root + name[:2] + "/"); err != nil {
			return nil, nil, err
		}
		c := &Claim{Record: Record{Sum: hex.EncodeToString(sum[:]), At: l.Clock.Wall().UTC()}, l: l, key: at}
		was, err := c.look(items)
		if was != nil || err != nil {
			return nil, was, err
		}
		err = c.take()
		if err == nil {
			return c, nil, nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return nil, nil, err
		}
	}
	return nil, nil, holdfast.Errorf(holdfast.Busy, "the same request comes from several sides at once; try again")
}

// look finds out from what is remembered whether the claim can be made.
func (c *Claim) look(items []kv.Item) (*Record, error) {
	n, runs := 0, false
	var was *Record
	for _, it := range items {
		switch {
		case it.Key == c.key:
			was = &Record{}
			if err := json.Unmarshal(it.Value, was); err != nil {
				return nil, holdfast.Errorf(holdfast.Corrupt, "what became of the request cannot be read: %w", err)
			}
			c.mod = it.Mod
		case it.Key == c.key+suffix:
			runs = true
		case !strings.HasSuffix(it.Key, suffix):
			n++
		}
	}
	switch {
	case was == nil && n >= most:
		return nil, holdfast.Errorf(holdfast.NoSpace, "too many keys are remembered already, for %v each; take another one, or none", Kept)
	case was == nil:
		return nil, nil
	case was.Sum != c.Sum:
		return nil, holdfast.Errorf(holdfast.Invalid, "it was given with another request, at %s; take another key", was.At.Format(time.RFC3339))
	case was.Status != 0:
		return was, nil
	case runs:
		return nil, holdfast.Errorf(holdfast.Busy, "this request is under way since %s; ask again", was.At.Format(time.RFC3339))
	}
	c.Again, c.At = true, was.At
	return nil, nil
}

// take writes the claim down.
func (c *Claim) take() (err error) {
	if c.kept, err = c.l.KV.Grant(Kept); err != nil {
		return err
	}
	if c.run, err = c.l.KV.Grant(running); err == nil {
		c.mod, err = c.l.KV.Commit([]kv.Cond{{Key: c.key, Mod: c.mod}, {Key: c.key + suffix}},
			[]kv.Op{{Key: c.key, Value: c.encode(), Lease: c.kept}, {Key: c.key + suffix, Value: []byte("1"), Lease: c.run}})
	}
	if err != nil {
		_ = c.l.KV.Revoke(c.run) // it ends by itself otherwise
		_ = c.l.KV.Revoke(c.kept)
		return err
	}
	c.stop, c.done = c.l.Clock.NewEvent(), c.l.Clock.NewEvent()
	c.l.Clock.Go(func() {
		defer c.done.Set()
		for !c.stop.Wait(renewEvery) {
			_ = c.l.KV.Renew(c.run) // when it fails for long enough, the next one who asks does it again
		}
	})
	return nil
}

func (c *Claim) encode() []byte {
	b, err := json.Marshal(c.Record)
	if err != nil {
		panic(err) // it is made of texts, a number and a time
	}
	return b
}

func (c *Claim) end() {
	c.stop.Set()
	c.done.Wait(clock.Forever)
}

// Finish notes that the request is done, and what it made.
func (c *Claim) Finish(status int, where string) error {
	c.end()
	return c.note(status, where)
}

func (c *Claim) note(status int, where string) error {
	c.Status, c.Where = status, where
	_, err := c.l.KV.Commit([]kv.Cond{{Key: c.key, Mod: c.mod}}, []kv.Op{{Key: c.key, Value: c.encode(), Lease: c.kept}})
	_ = c.l.KV.Revoke(c.run)
	return err
}

// Release forgets the request: nothing was done.
func (c *Claim) Release() {
	c.end()
	_ = c.l.KV.Revoke(c.run)
	_ = c.l.KV.Revoke(c.kept)
}

// Abandon leaves the request to whoever sends it again: nobody knows whether it was
// done.
func (c *Claim) Abandon() {
	c.end()
	_ = c.l.KV.Revoke(c.run)
}
