package alert

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Where the records stand, beside those of package cluster.
const (
	root        = "holdfast/2/alert/"
	dirReceiver = root + "receiver/"
	dirTold     = root + "told/"
)

// Bounds of what is remembered of a receiver.
const (
	maxOpen    = 200      // alerts
	maxWorse   = 50       // effects of one of them
	maxKnown   = 200      // characters of its text
	maxError   = 300      // likewise
	maxWaiting = 64 << 10 // bytes of a message; what finds no room in it is counted
)

// Told is what a receiver knows. Whoever leads goes by it, so that a new leader tells
// nothing twice.
type Told struct {
	Of      string             `json:"of"`                // its name
	Seq     uint64             `json:"seq"`               // messages so far
	Open    map[string]OpenOne `json:"open,omitempty"`    // by the id of the condition
	At      time.Time          `json:"at,omitzero"`       // when the last message was put together
	Waiting *Message           `json:"waiting,omitempty"` // it was put together, and nobody knows that it arrived
	Sent    time.Time          `json:"sent,omitzero"`     // when one arrived
	Failing time.Time          `json:"failing,omitzero"`  // since when none does
	Error   string             `json:"error,omitempty"`   // and why
}

// OpenOne is an alert that a receiver knows of.
type OpenOne struct {
	Severity string     `json:"severity"`
	Text     string     `json:"text"`
	Since    *time.Time `json:"since,omitempty"`
	Worse    []string   `json:"worse,omitempty"` // its effects that are errors, by id
}

// record is a receiver and what it was told, with the revisions that a change of them
// is conditional on.
type record struct {
	Receiver
	Told
	mod, toldMod kv.Rev
}

// decodeReceiver reads a record. Kind Corrupt.
func decodeReceiver(key string, b []byte) (r Receiver, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, holdfast.Errorf(holdfast.Corrupt, "alert receiver: %w", err)
	}
	if key != dirReceiver+r.Name {
		return r, holdfast.Errorf(holdfast.Corrupt, "alert receiver: it stands in another's place")
	}
	password := r.Password
	if r.User != "" && password == "" {
		r.Password = "?" // it was not kept, see WithoutSecrets
	}
	err = r.Check()
	if r.Password = password; err != nil {
		return r, holdfast.Errorf(holdfast.Corrupt, "alert receiver %s: %w", r.Name, err)
	}
	return r, nil
}

// decodeTold reads a record. Kind Corrupt.
func decodeTold(key string, b []byte) (t Told, err error) {
	if err := json.Unmarshal(b, &t); err != nil {
		return t, holdfast.Errorf(holdfast.Corrupt, "what an alert receiver was told: %w", err)
	}
	if key != dirTold+t.Of || len(t.Open) > maxOpen || t.Waiting != nil && len(t.Waiting.Alerts) > maxAlerts {
		return t, holdfast.Errorf(holdfast.Corrupt, "what an alert receiver was told: it stands in another's place, or is too much")
	}
	return t, nil
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it is made of texts, numbers and times
	}
	return b
}

// WithoutSecrets returns records as they may stand on a disk in the clear: mail
// receivers without passwords, and no webhooks, whose URLs and secrets are nothing
// else.
func WithoutSecrets(items []kv.Item) []kv.Item {
	var out []kv.Item
	for _, it := range items {
		if strings.HasPrefix(it.Key, dirReceiver) {
			r, err := decodeReceiver(it.Key, it.Value)
			if err != nil || r.Kind == Webhook {
				continue // what it holds is not known, or a secret
			}
			r.Password = ""
			it.Value = encode(r)
		}
		out = append(out, it)
	}
	return out
}

// Origin is the part of a webhook's URL that is no secret.
func (r *Receiver) Origin() string {
	u, err := r.target()
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func byName(a, b record) int { return strings.Compare(a.Receiver.Name, b.Receiver.Name) }

// gather puts together what belongs together.
func gather(items []kv.Item) (out []record, bad []string) {
	told := map[string]record{}
	for _, it := range items {
		if !strings.HasPrefix(it.Key, dirTold) {
			continue
		}
		t, err := decodeTold(it.Key, it.Value)
		if err != nil {
			t = Told{Of: strings.TrimPrefix(it.Key, dirTold)} // everything is told anew
			bad = append(bad, it.Key)
		}
		told[t.Of] = record{Told: t, toldMod: it.Mod}
	}
	for _, it := range items {
		if !strings.HasPrefix(it.Key, dirReceiver) {
			continue
		}
		r, err := decodeReceiver(it.Key, it.Value)
		if err != nil {
			bad = append(bad, it.Key)
			continue
		}
		rec := told[r.Name]
		rec.Receiver, rec.Of, rec.mod = r, r.Name, it.Mod
		out = append(out, rec)
	}
	slices.SortFunc(out, byName)
	return out, bad
}
