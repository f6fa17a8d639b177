// Package httpapi serves the REST API of one host: on a unix socket that only
// its owner may open, and over HTTPS to the administrator and to fellow
// hosts. It turns requests into calls of a Backend and pictures of the cluster
// into wire types (api/v1). What it serves is described by /openapi.json,
// which is generated from the same Go types, and by docs/protocol/api.md.
package httpapi
