// Package account knows who may do what: users with passwords, their sessions,
// tokens of programs, roles, and the one-time link that makes the first
// administrator. Its records stand beside those of the cluster in kv and are
// kept and recovered with them (docs/format/account.md); package cluster knows
// nothing of them.
//
// A Store is one host's live picture of these records. While the control plane
// is away it goes on with what it knows: who was let in stays in, nobody logs in
// anew, and nothing can be revoked.
package account
