// Package observer watches a volume as outsiders do: clients of NBD that write,
// read, trim and flush the same blocks side by side, give up and connect elsewhere
// when nothing is answered, and take down what they asked for, when, and what
// became of it. The history that comes of it (internal/history) is judged
// afterwards: every block must be linearizable, and nothing that was flushed may be
// missing after all memory was lost. Of the product it uses the sockets of the
// volume and, to know the cache generation of a session, its records.
package observer
