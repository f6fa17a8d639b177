package v1

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// AuditEntry is one thing that somebody did, or was refused.
type AuditEntry struct {
	Seq    int64     `json:"seq" doc:"From 0, without gaps"`
	At     time.Time `json:"at" doc:"By the calendar of the host"`
	Host   string    `json:"host" doc:"That was asked"`
	Who    string    `json:"who"`
	From   string    `json:"from" doc:"Address; socket: on the host itself"`
	Op     string    `json:"op" doc:"Id of the operation"`
	Object string    `json:"object,omitempty"`
	Status int       `json:"status" doc:"Of the answer, as in HTTP; 0: it was never ended"`
	Note   string    `json:"note,omitempty"`
	Hash   string    `json:"hash" doc:"Chains the entry to all before it"`
}

// AuditPage is a part of the audit log, the oldest entry first.
type AuditPage struct {
	Entries []AuditEntry `json:"entries"`
	Before  string       `json:"before,omitempty" doc:"Hash of the entry before the first one; absent: there has been none"`
	First   int64        `json:"first" doc:"The oldest entry that is still there"`
	Next    int64        `json:"next" doc:"What the next entry will be"`
	Head    string       `json:"head,omitempty" doc:"Hash of the last entry of all"`
}

// Chain returns the hash that an entry has after one of the hash before: of the
// text of both, a line for each field, none of which has a line end in it.
func (e *AuditEntry) Chain(before string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "holdfast audit 1\n%s\n%d\n%s\n", before, e.Seq, e.At.UTC().Format(time.RFC3339Nano))
	for _, s := range []string{e.Host, e.Who, e.From, e.Op, e.Object} {
		b.WriteString(oneLine(s) + "\n")
	}
	fmt.Fprintf(&b, "%d\n%s\n", e.Status, oneLine(e.Note))
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

func oneLine(s string) string {
	return strings.NewReplacer("\\", `\\`, "\n", `\n`).Replace(s)
}

// BrokenLink is where a chain does not hold.
type BrokenLink struct {
	Seq int64
	Why string
}

// Error implements error.
func (b *BrokenLink) Error() string { return fmt.Sprintf("entry %d: %s", b.Seq, b.Why) }

// VerifyChain follows a chain from an entry on, the hash before which is known, and
// returns the hash after it. Its error is a *BrokenLink, the first.
func VerifyChain(before string, from int64, entries []AuditEntry) (string, error) {
	for i := range entries {
		e := &entries[i]
		switch want := from + int64(i); {
		case e.Seq != want:
			return before, &BrokenLink{want, fmt.Sprintf("it is missing: after it comes %d", e.Seq)}
		case e.Chain(before) != e.Hash:
			return before, &BrokenLink{want, "it, or what came before it, was changed"}
		}
		before = e.Hash
	}
	return before, nil
}
