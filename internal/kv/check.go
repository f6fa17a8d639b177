package kv

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// MaxCommit bounds the keys and values of one commit together, in bytes: etcd
// sends a commit as one message and keeps it in memory until it is applied.
const MaxCommit = 1 << 20

// MaxKey is the longest key in bytes.
const MaxKey = 512

// CheckCommit refuses with kind Invalid what no Store may accept: too many
// operations, a key named twice, an empty or oversize key or value. Every
// implementation calls it first, so that all refuse alike.
func CheckCommit(conds []Cond, ops []Op) error {
	if len(conds) > MaxOps || len(ops) > MaxOps {
		return holdfast.Errorf(holdfast.Invalid,
			"a commit of %d conditions and %d changes is too large: at most %d of each; split it", len(conds), len(ops), MaxOps)
	}
	total := 0
	for _, c := range conds {
		if err := checkKey(c.Key); err != nil {
			return err
		}
		total += len(c.Key)
	}
	seen := make(map[string]struct{}, len(ops))
	for _, o := range ops {
		if err := checkOp(o); err != nil {
			return err
		}
		if _, twice := seen[o.Key]; twice {
			return holdfast.Errorf(holdfast.Invalid, "a commit names the key %q twice", o.Key)
		}
		seen[o.Key] = struct{}{}
		total += len(o.Key) + len(o.Value)
	}
	if total > MaxCommit {
		return holdfast.Errorf(holdfast.Invalid,
			"a commit of %d bytes is too large: at most %d; split it", total, MaxCommit)
	}
	return nil
}

func checkKey(k string) error {
	if k == "" || len(k) > MaxKey {
		return holdfast.Errorf(holdfast.Invalid, "a key of %d bytes: 1 to %d are allowed", len(k), MaxKey)
	}
	return nil
}

func checkOp(o Op) error {
	if err := checkKey(o.Key); err != nil {
		return err
	}
	if len(o.Value) > MaxValue {
		return holdfast.Errorf(holdfast.Invalid,
			"the value of %q has %d bytes: at most %d are allowed", o.Key, len(o.Value), MaxValue)
	}
	if o.Delete && (len(o.Value) > 0 || o.Lease != 0) {
		return holdfast.Errorf(holdfast.Invalid, "the delete of %q has a value or a lease", o.Key)
	}
	return nil
}

// CheckTTL refuses, with kind Invalid, a lease that is not of whole seconds
// between one second and one day.
func CheckTTL(ttl time.Duration) error {
	if ttl < time.Second || ttl > 24*time.Hour || ttl%time.Second != 0 {
		return holdfast.Errorf(holdfast.Invalid, "a lease of %v: whole seconds from 1 s to 24 h are allowed", ttl)
	}
	return nil
}
