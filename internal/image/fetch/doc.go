// Package fetch gets disk images by URL, for whoever may name a URL and must not
// reach through this host what they cannot reach themselves. Where a connection goes
// is decided when it is dialled, by the address that it is dialled to: names that
// lead elsewhere in the meantime, redirects and odd spellings change nothing
// (docs/adr/0096-a-host-fetches-images.md).
package fetch
