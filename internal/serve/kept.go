package serve

import (
	"crypto/rand"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kept"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// How often the records are written down at most, and how fast: a large cluster
// that changes all the time shall not wear a disk out.
const (
	keepLook    = 250 * time.Millisecond
	keepLeast   = time.Second
	keepRate    = 1 << 20          // bytes a second
	keepConfirm = 15 * time.Second // between two notes that there is nothing newer
)

const keptCondition = "records-kept"

func (h *Host) shelf() kept.Shelf { return kept.Shelf{Dir: h.dir.file("kept")} }

// keepRecords keeps a sealed copy of the cluster's records in the data directory
// (docs/format/kept.md), from which 'cluster recover' rebuilds the control plane.
// It ends with the member.
func (h *Host) keepRecords(m *member) {
	mirror := cluster.NewMirror(m.kv, clock.System{})
	defer mirror.Close()
	var written kv.Rev
	var next, confirm time.Time
	disks, said := diskCopies{rev: make(map[holdfast.DiskID]kv.Rev)}, keptWhy{}
	for {
		mirror.Changed.Wait(keepLook)
		select {
		case <-m.done:
			return
		default:
		}
		rev, err := mirror.Rev()
		if err != nil {
			h.log.Error("this host stops its work", "error", err)
			h.restart(nil) // it begins again above what it has kept, and holds
			return
		}
		now := time.Now()
		if m.node.Cluster.State().Rev == 0 || m.node.Cluster.Err() != nil || now.Before(next) {
			continue
		}
		if tried, err := h.keepOnDisks(m, mirror, &disks); tried {
			said.disks = err
			h.tellKept(m, &said)
		}
		switch {
		case rev > written:
			n, err := h.keepOnce(m, mirror)
			next = now.Add(max(keepLeast, time.Duration(n)*time.Second/keepRate))
			if err == nil {
				written, confirm = rev, now.Add(keepConfirm)
			}
			said.shelf = err
			h.tellKept(m, &said)
		case now.After(confirm) && m.node.Lease().Valid():
			confirm = now.Add(keepConfirm)
			head := kept.Head{Incarnation: m.ms.Load().Incarnation, Rev: written}
			if err := h.shelf().Confirm(head, now); err != nil {
				h.log.Debug("the kept records could not be confirmed", "error", err)
			}
		}
	}
}

// keptWhy is why the records could not be kept, in the data directory or on disks,
// and what was said of it last.
type keptWhy struct {
	shelf, disks error
	told         string
}

// tellKept says whether the records are kept, if that has changed.
func (h *Host) tellKept(m *member, w *keptWhy) {
	err := w.shelf
	if err == nil {
		err = w.disks
	}
	text, level := "", ""
	if err != nil {
		level = "warning"
		text = "host " + h.cfg.Name + " could not write down the cluster's records, from which the control plane can be rebuilt: " + err.Error()
	}
	if text != w.told {
		w.told = text
		if err != nil {
			h.log.Warn("the cluster's records could not be kept", "error", err)
		}
		m.node.Condition(keptCondition, level, text)
	}
}

// keepOnce seals the records and puts them on the shelf; n is their size.
func (h *Host) keepOnce(m *member, mirror *cluster.Mirror) (n int, err error) {
	items, rev := mirror.Records()
	c, ok := cluster.ClusterIn(items)
	if !ok {
		return 0, holdfast.Errorf(holdfast.Corrupt, "the cluster's own record cannot be read")
	}
	copy := kept.Copy{Items: items, Head: h.keptHead(m, c, rev)}
	if _, have, _, err := h.shelf().Newest(); err == nil && have.Cluster == m.ms.Load().Cluster && !copy.Newer(&have) {
		return 0, nil // as before a restart
	}
	key, from, err := h.keptKey(m.node.Cluster.State().Keyring, m.node.Keys)
	if err != nil {
		return 0, err
	}
	copy.Key = from
	sum := cluster.SumOf(items)
	copy.Sum = sum[:]
	b, err := kept.Seal(copy, key, rand.Reader)
	if err != nil {
		return 0, err
	}
	return len(b), h.shelf().Put(b)
}

// keptKey is what copies are sealed with: the cluster key if there is one, or
// this host's own.
func (h *Host) keptKey(rec cluster.Versioned[keyring.Record], ring *keyring.Ring) (keyring.Key, *keyring.Source, error) {
	if rec.Mod == 0 {
		k, err := kept.HostKey(h.dir.file("pki"), true, rand.Reader)
		return k, nil, err
	}
	from := rec.Val.Current()
	k, ok := ring.Get(from.ID)
	if !ok {
		return k, nil, holdfast.Errorf(holdfast.Unavailable, "the cluster key, which seals them, is not loaded here; run 'holdfast cluster key unlock'")
	}
	return k, &from, nil
}

// floor is what this host has once read of the control plane.
func (h *Host) floor(ms membership) cluster.Floor {
	b, head, _, err := h.shelf().Newest()
	if err != nil || head.Cluster != ms.Cluster || head.Incarnation != ms.Incarnation {
		return cluster.Floor{}
	}
	f := cluster.Floor{Incarnation: head.Incarnation, Rev: head.Rev}
	if head.Key != nil { // sealed with what is not in memory yet
		copy(f.Sum[:], head.Sum)
		return f
	}
	if key, err := kept.HostKey(h.dir.file("pki"), false, nil); err == nil {
		if c, err := kept.Open(b, key); err == nil {
			return cluster.FloorOf(c.Items, c.Incarnation, c.Rev)
		}
	}
	return f
}
