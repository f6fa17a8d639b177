// Package passkeytest is a device with passkeys, for tests.
package passkeytest

import (
	"encoding/json"

	device "github.com/descope/virtualwebauthn"
)

// Device is a phone, or a key for a keyring, with one passkey. It does what it is
// asked, also what no device would.
type Device struct {
	Synced     bool   // its owner's other devices have what it has
	Unverified bool   // it asks nobody who they are
	Count      uint32 // of the next use; 0: it does not count
	Handle     []byte // of the user

	cred *device.Credential
}

func (d *Device) auth() device.Authenticator {
	return device.NewAuthenticatorWithOptions(device.AuthenticatorOptions{UserHandle: d.Handle, UserNotVerified: d.Unverified, BackupEligible: d.Synced, BackupState: d.Synced})
}

// Make answers to options for a passkey, at a page.
func (d *Device) Make(origin string, options json.RawMessage) ([]byte, error) {
	o, err := device.ParseAttestationOptions(string(options))
	if err != nil {
		return nil, err
	}
	c := device.NewCredential(device.KeyTypeEC2)
	c.Counter = d.Count
	d.cred, d.Handle = &c, []byte(o.UserID)
	return []byte(device.CreateAttestationResponse(device.RelyingParty{ID: o.RelyingPartyID, Name: o.RelyingPartyName, Origin: origin}, d.auth(), c, *o)), nil
}

// Prove answers to options for a log-in, at a page.
func (d *Device) Prove(origin string, options json.RawMessage) ([]byte, error) {
	o, err := device.ParseAssertionOptions(string(options))
	if err != nil {
		return nil, err
	}
	d.cred.Counter = d.Count
	return []byte(device.CreateAssertionResponse(device.RelyingParty{ID: o.RelyingPartyID, Origin: origin}, d.auth(), *d.cred, *o)), nil
}
