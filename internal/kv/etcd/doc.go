// Package etcd is kv over etcd: the member that a voting host runs inside its
// own process, and the client that every host uses, also towards an etcd that
// somebody else runs. It alone imports etcd.
//
// Both ports of a member always speak mutual TLS. The client dials every
// member by itself and chooses among them call by call, since a member may be
// dead, frozen, cut off or a learner, and each is noticed differently.
package etcd
