package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// auditPage is how many entries are asked for at once.
const auditPage = 500

func (a *app) auditCmd() *cobra.Command {
	return noun("audit", "Who did what", a.auditListCmd(), a.auditVerifyCmd())
}

func (a *app) auditListCmd() *cobra.Command {
	var from int64
	var limit int
	cols := []column[v1.AuditEntry]{
		{"SEQ", false, func(e v1.AuditEntry) any { return e.Seq }},
		{"AT", false, func(e v1.AuditEntry) any { return e.At }},
		{"WHO", false, func(e v1.AuditEntry) any { return e.Who }},
		{"FROM", false, func(e v1.AuditEntry) any { return e.From }},
		{"HOST", false, func(e v1.AuditEntry) any { return e.Host }},
		{"OPERATION", false, func(e v1.AuditEntry) any { return e.Op }},
		{"OBJECT", false, func(e v1.AuditEntry) any { return e.Object }},
		{"STATUS", false, func(e v1.AuditEntry) any { return e.Status }},
		{"NOTE", true, func(e v1.AuditEntry) any { return e.Note }},
		{"HASH", true, func(e v1.AuditEntry) any { return e.Hash }},
	}
	c := &cobra.Command{Use: "list", Short: "List what was done, the newest last", Args: args(),
		Long:    "List what was done, the newest last: every call that changed something or was refused, log-ins, consoles, and what data was taken out.",
		Example: "  holdfast audit list\n  holdfast audit list --from 0 --limit 1000 -o json > audit.json",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			p, err := c.Audit(ctx, from, limit)
			if err != nil {
				return err
			}
			return printAll(a, p.Entries, cols, func(e v1.AuditEntry) string { return strconv.FormatInt(e.Seq, 10) })
		})}
	c.Flags().Int64Var(&from, "from", -1, "the first `entry`; default: the last ones are listed")
	c.Flags().IntVar(&limit, "limit", 50, "how many, at most 1000")
	return c
}

func (a *app) auditVerifyCmd() *cobra.Command {
	var known string
	c := &cobra.Command{Use: "verify", Short: "Check that nothing in the record of who did what was changed", Args: args(),
		Long: `Check that nothing in the record of who did what was changed. Each entry is
chained to all before it, so a change breaks the chain at the first entry that
was changed, which is named; exit status 1.

Who can write the control plane itself can also write a whole chain anew. Against
that, keep what this command prints last elsewhere, and give it with --known the
next time: then what came before it is as it was.`,
		Example: "  holdfast audit verify\n  holdfast audit verify --known 812:5d41402abc4b2a76b9719d911017c592ae2c33a4b8d2b0aa81a2f7f5c6b0e3d1",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			seq, hash, err := parseKnown(known)
			if err != nil {
				return err
			}
			p, err := verifyAudit(ctx, c, seq, hash)
			var broken *v1.BrokenLink
			if errors.As(err, &broken) {
				fmt.Fprintf(a.Stdout, "The audit log was tampered with: %v.\n", broken)
				a.exit = 1
				return nil
			}
			if err != nil {
				return err
			}
			if a.structured() {
				return a.encode(map[string]any{"first": p.First, "next": p.Next, "head": p.Head})
			}
			if p.Next == 0 {
				return a.done("audit", "", "The audit log is empty.")
			}
			return a.done("audit", fmt.Sprintf("%d:%s", p.Next-1, p.Head), fmt.Sprintf("Entries %d to %d stand as they were written. The last is %d:%s", p.First, p.Next-1, p.Next-1, p.Head))
		})}
	c.Flags().StringVar(&known, "known", "", "`ENTRY:HASH` that an earlier check printed")
	return c
}

// parseKnown reads what an earlier check printed; -1 if that was not given.
func parseKnown(text string) (int64, string, error) {
	if text == "" {
		return -1, "", nil
	}
	n, hash, ok := strings.Cut(text, ":")
	seq, err := strconv.ParseInt(n, 10, 64)
	if !ok || err != nil || seq < 0 || len(hash) != 64 {
		return 0, "", holdfast.Errorf(holdfast.Invalid, "--known %s: give ENTRY:HASH as 'audit verify' printed it", plain(text))
	}
	return seq, strings.ToLower(hash), nil
}

// verifyAudit follows the chain from its first entry to its last, as of the
// beginning.
func verifyAudit(ctx context.Context, c *client.Client, knownSeq int64, knownHash string) (v1.AuditPage, error) {
	all, err := c.Audit(ctx, 0, 1)
	if err != nil {
		return all, err
	}
	if knownSeq >= all.Next {
		return all, &v1.BrokenLink{Seq: knownSeq, Why: fmt.Sprintf("it is gone: the log ends before entry %d", all.Next)}
	}
	before, at := all.Before, all.First
	for at < all.Next {
		p, err := c.Audit(ctx, at, auditPage)
		if err != nil {
			return all, err
		}
		if p.First > at { // others write meanwhile, and the oldest go
			all.First, at, before = p.First, p.First, p.Before
		}
		if len(p.Entries) == 0 {
			return all, &v1.BrokenLink{Seq: at, Why: "it is missing"}
		}
		for i := range p.Entries {
			if e := p.Entries[i]; at < all.Next {
				if before, err = v1.VerifyChain(before, at, p.Entries[i:i+1]); err != nil {
					return all, err
				}
				if at == knownSeq && e.Hash != knownHash {
					return all, &v1.BrokenLink{Seq: at, Why: "it is not the one that was known: the log was written anew"}
				}
				at++
			}
		}
	}
	if before != all.Head {
		return all, &v1.BrokenLink{Seq: all.Next - 1, Why: "it is not the last one that was written"}
	}
	if knownSeq >= 0 && knownSeq < all.First {
		return all, holdfast.Errorf(holdfast.NotFound, "entry %d is too old to be here: the log begins at %d now, and stands as it was written; keep its last entry, %d:%s", knownSeq, all.First, all.Next-1, all.Head)
	}
	return all, nil
}
