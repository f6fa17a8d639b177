package v1

import (
	"encoding/json"
	"time"
)

// Pages are the names by which people open the cluster's pages, and the authority that
// browsers are to trust for them.
type Pages struct {
	Names     []string          `json:"names" doc:"The first is the one that people are told; every host answers on the link for those in .local"`
	Authority PagesAuthority    `json:"authority"`
	Site      *PagesCertificate `json:"site,omitempty" doc:"The certificate that the site has from elsewhere for names of its own; absent: none"`
	Named     bool              `json:"named" doc:"The caller has come by one of the names"`
}

// PagesAuthority vouches for the names and for nothing else.
type PagesAuthority struct {
	SHA256      string    `json:"sha256" doc:"Of its certificate, as browsers and phones show it"`
	Until       time.Time `json:"until"`
	Certificate string    `json:"certificate" doc:"PEM"`
}

// PagesCertificate is the site's own certificate, which its people's browsers trust
// already.
type PagesCertificate struct {
	Names  []string  `json:"names" doc:"By these the pages are opened, too; '*' is any word"`
	Issuer string    `json:"issuer"`
	SHA256 string    `json:"sha256" doc:"As browsers show it"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
}

// PagesSite gives the pages a certificate of the site's own.
type PagesSite struct {
	Certificate string `json:"certificate" maxLength:"65536" doc:"PEM: the site's own first, and then each that vouches for the one before"`
	Key         string `json:"key" maxLength:"16384" doc:"PEM, not encrypted; RSA of 2048 bits or more, or ECDSA. No answer has it"`
}

// PagesSpec gives the pages names.
type PagesSpec struct {
	Names        []string `json:"names" minItems:"1" maxItems:"8" doc:"In small letters, with a dot, such as field.local or cloud.example.org"`
	NewAuthority bool     `json:"new_authority,omitempty" doc:"Have another authority in any case; without it, only if the one of now may not vouch for the names"`
}

// CeremonyBegin is what a browser asks a device with.
type CeremonyBegin struct {
	ID      string          `json:"id" doc:"To be given with the device's answer"`
	Options json.RawMessage `json:"options" doc:"For navigator.credentials, in the JSON form of Web Authentication Level 3"`
}

// PasskeyLogin is the device's answer to a log-in.
type PasskeyLogin struct {
	ID     string          `json:"id" maxLength:"64" doc:"As passkey-login-begin said"`
	Answer json.RawMessage `json:"answer" doc:"PublicKeyCredential, in its JSON form"`
}

// PasskeyBegin begins to make a passkey.
type PasskeyBegin struct {
	Password string `json:"password" maxLength:"1024" doc:"The caller's: a session that was left open adds none"`
}

// PasskeySpec is a passkey that a device has made.
type PasskeySpec struct {
	ID     string          `json:"id" maxLength:"64" doc:"As passkey-begin said"`
	Name   string          `json:"name" minLength:"1" maxLength:"63" doc:"For people"`
	Answer json.RawMessage `json:"answer" doc:"PublicKeyCredential, in its JSON form"`
}

// Passkey is a device that stands for its user's password.
type Passkey struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Site    string     `json:"site" doc:"The name of the pages at which it serves"`
	Synced  bool       `json:"synced" doc:"Its user's other devices may have it"`
	Created time.Time  `json:"created"`
	Used    *time.Time `json:"used,omitempty" doc:"Last; absent: never"`
}
