package iscsi

import (
	"github.com/holdfast-cloud/holdfast"
)

// Access says who may log in to a target. The zero value lets nobody in.
type Access struct {
	Initiators []Initiator
}

// Initiator is one entry of an access list.
type Initiator struct {
	// Name is the iSCSI name that the initiator states; "*" stands for any.
	Name string
	// User and Secret are what the initiator must know (CHAP); an empty
	// secret lets everybody in who states the name.
	User, Secret string
	// MutualUser and MutualSecret are what this end proves to know if the
	// initiator asks; an empty secret refuses that.
	MutualUser, MutualSecret string
}

// Lengths of CHAP secrets in bytes (RFC 7143 §9.2.1).
const (
	minSecret = 12
	maxSecret = 255
)

func (a Access) check() error {
	for _, i := range a.Initiators {
		for _, s := range []string{i.Secret, i.MutualSecret} {
			if s != "" && (len(s) < minSecret || len(s) > maxSecret) {
				return holdfast.Errorf(holdfast.Invalid, "a CHAP secret of %d bytes; it must have %d to %d", len(s), minSecret, maxSecret)
			}
		}
		if i.Secret != "" && i.Secret == i.MutualSecret {
			return holdfast.Errorf(holdfast.Invalid, "the CHAP secrets of the two directions are the same; an initiator could send back what it was asked (RFC 7143 §9.2.1)")
		}
		if i.MutualSecret != "" && i.Secret == "" {
			return holdfast.Errorf(holdfast.Invalid, "a target that proves who it is must be given a secret for the initiator as well")
		}
	}
	return nil
}

// of returns the entries for an initiator's name: those that name it, or else
// those for any.
func (a Access) of(name string) (list []Initiator) {
	for _, i := range a.Initiators {
		if i.Name == name {
			list = append(list, i)
		}
	}
	if len(list) > 0 {
		return list
	}
	for _, i := range a.Initiators {
		if i.Name == "*" {
			list = append(list, i)
		}
	}
	return list
}

// open reports whether an entry asks for no secret.
func open(list []Initiator) bool {
	for _, i := range list {
		if i.Secret == "" {
			return true
		}
	}
	return false
}
