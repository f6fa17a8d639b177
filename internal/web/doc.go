// Package web knows by which names people open the cluster's pages, and has the
// authority that browsers are asked to trust for them. Passkeys need both: a browser
// binds them to a name, and offers none where it does not trust the certificate.
//
// The web authority is not the cluster's own. Whoever installs it on a phone trusts it
// for these names and for web servers alone (RFC 5280 §4.2.1.10, §4.2.1.12): it can
// vouch for no other site, no address, and no host or administrator of the cluster.
//
// The record stands beside those of the cluster in kv (docs/format/web.md); every host
// makes itself a certificate by it, and shows that to who asks for one of the names.
package web
