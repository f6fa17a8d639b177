package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Ejected says since when a replica misses what is written. It stands as long as
// the replica is one of the others.
type Ejected struct {
	Replica holdfast.ReplicaID `json:"replica"`
	At      time.Time          `json:"at"`             // by the clock of the host that ejected it
	Upto    holdfast.LSN       `json:"upto,omitempty"` // the highest that its writer had issued then; 0: it did not answer at an opening
}

// Forced says that a volume was opened from a stale replica on a person's word:
// what was flushed above Upto may be missing (ADR 0065).
type Forced struct {
	At      time.Time          `json:"at"`
	By      string             `json:"by,omitempty"` // as they said
	Epoch   holdfast.Epoch     `json:"epoch"`        // from here on there is another history
	Replica holdfast.ReplicaID `json:"replica"`      // that it was opened from
	Upto    holdfast.LSN       `json:"upto"`         // all that this one held
	Seen    holdfast.LSN       `json:"seen"`         // what is known to have been issued elsewhere, at least
	Stale   *time.Time         `json:"stale,omitempty"`
	// Kept says that the first opening has kept the replica as it was, as
	// Snapshot (zero: there was no room, or it is an image, which does not change).
	Kept     bool                `json:"kept,omitempty"`
	Snapshot holdfast.SnapshotID `json:"snapshot,omitzero"`
	// Snapshots are the names of those that went with the lost replicas.
	Snapshots []string   `json:"snapshots,omitempty"`
	Lost      []LostCopy `json:"lost,omitempty"`
	// Acknowledged is when somebody said that they have dealt with it; the lost
	// replicas are set aside all the same, should they come back.
	Acknowledged *time.Time `json:"acknowledged,omitempty"`
}

// LostCopy is a replica that was done without. If it comes back, its content
// becomes a volume of its own; the identities of that are fixed beforehand, so
// that it can be broken off and repeated.
type LostCopy struct {
	Replica
	Upto   holdfast.LSN       `json:"upto"`   // what it shares with the forced one, at most
	Volume holdfast.VolumeID  `json:"volume"` // that its content becomes
	Copy   holdfast.ReplicaID `json:"copy"`   // and the replica of that
	// What it was, once it is set aside:
	Name    string       `json:"name,omitempty"`
	At      *time.Time   `json:"at,omitempty"`
	Prefix  holdfast.LSN `json:"prefix,omitempty"`
	Blocks  uint64       `json:"blocks,omitempty"` // that were written above Upto
	Runs    []Run        `json:"runs,omitempty"`   // the first of these, ascending
	Damaged bool         `json:"damaged,omitempty"`
}

// Run is some blocks of a volume.
type Run struct {
	Addr   uint64 `json:"addr"`
	Blocks uint64 `json:"blocks"`
}

// MaxRuns is how many runs of blocks a lost copy's record names.
const MaxRuns = 64

// Eject moves a replica out of the in-sync set; upto as in Ejected. The record's
// own lists are not changed.
func (v *Volume) Eject(r Replica, at time.Time, upto holdfast.LSN) {
	this := func(o Replica) bool { return o.ID == r.ID }
	v.InSync = slices.DeleteFunc(slices.Clone(v.InSync), this)
	v.Others = append(slices.DeleteFunc(slices.Clone(v.Others), this), r)
	v.Ejected = append(slices.Clone(v.Ejected), Ejected{Replica: r.ID, At: at.UTC(), Upto: upto})
	v.tidyEjected()
}

// tidyEjected forgets what does not stand for one of the others any more, and of
// one that was ejected again the time before.
func (v *Volume) tidyEjected() {
	var left []Ejected
	for i, e := range v.Ejected {
		again := slices.ContainsFunc(v.Ejected[i+1:], func(o Ejected) bool { return o.Replica == e.Replica })
		if !again && slices.ContainsFunc(v.Others, func(r Replica) bool { return r.ID == e.Replica }) {
			left = append(left, e)
		}
	}
	v.Ejected = left
}

// DatedName is PREFIX-WORD-DATE, or PREFIX-DATE, in the form of names, with a
// number if that is taken. A prefix that is too long is cut.
func DatedName(prefix, word string, at time.Time, taken func(string) bool) string {
	tail := at.UTC().Format("2006-01-02")
	if word != "" {
		tail = word + "-" + tail
	}
	for n := 1; ; n++ {
		end := "-" + tail
		if n > 1 {
			end = fmt.Sprintf("-%s-%d", tail, n)
		}
		name := strings.TrimRight(prefix[:min(len(prefix), maxName-len(end))], "-") + end
		if !taken(name) {
			return name
		}
	}
}

const maxName = 63 // see holdfast.CheckName

// LostCopy finds a replica that was done without and has not been set aside.
func (v *Volume) LostCopy(id holdfast.ReplicaID) (LostCopy, bool) {
	if v.Forced == nil {
		return LostCopy{}, false
	}
	i := slices.IndexFunc(v.Forced.Lost, func(l LostCopy) bool { return l.ID == id && l.At == nil })
	if i < 0 {
		return LostCopy{}, false
	}
	return v.Forced.Lost[i], true
}

func checkForced(v *Volume) error {
	if n := len(v.Ejected); n > maxReplicas {
		return bad("volume", v.Name, "%d ejected replicas, at most %d are allowed", n, maxReplicas)
	}
	f := v.Forced
	if f == nil {
		return nil
	}
	if n := len(f.Lost); n > maxReplicas {
		return bad("volume", v.Name, "%d lost replicas, at most %d are allowed", n, maxReplicas)
	}
	if n := len(f.Snapshots); n > MaxLostSnapshots {
		return bad("volume", v.Name, "%d lost snapshots, at most %d are allowed", n, MaxLostSnapshots)
	}
	if len(f.By) > maxText {
		return bad("volume", v.Name, "who forced it has %d bytes, at most %d are allowed", len(f.By), maxText)
	}
	for _, l := range f.Lost {
		switch {
		case l.ID.IsZero() || l.Volume.IsZero() || l.Copy.IsZero():
			return bad("volume", v.Name, "lost replica %s lacks an identifier", l.ID)
		case len(l.Runs) > MaxRuns:
			return bad("volume", v.Name, "%d runs of a lost replica, at most %d are allowed", len(l.Runs), MaxRuns)
		}
	}
	return nil
}

// MaxLostSnapshots bounds the names of snapshots that a forced opening lost.
const MaxLostSnapshots = 100
