package holdfast

import "strings"

// FaultDomain says where something stands: site ⊃ rack ⊃ host ⊃ disk. Names
// are chosen by people; a rack's name is unique within its site.
type FaultDomain struct {
	Site string `json:"site,omitempty"`
	Rack string `json:"rack"`
}

// String prints "site/rack", or the rack alone where there is one site.
func (f FaultDomain) String() string {
	if f.Site == "" {
		return f.Rack
	}
	return f.Site + "/" + f.Rack
}

// CheckName refuses a name that people could not type or that would not
// survive as part of a key, a path or a host name: 1 to 63 characters, lower
// case letters, digits and hyphens, starting with a letter or digit.
func CheckName(what, s string) error {
	if s == "" {
		return Errorf(Invalid, "%s: the name is empty; use 1 to 63 of a-z, 0-9 and '-'", what)
	}
	if len(s) > 63 {
		return Errorf(Invalid, "%s name %q: %d characters, at most 63 are allowed", what, s[:20]+"…", len(s))
	}
	bad := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	})
	if bad >= 0 || s[0] == '-' || s[len(s)-1] == '-' {
		return Errorf(Invalid, "%s name %q: use a-z, 0-9 and '-', starting and ending with a letter or digit", what, s)
	}
	return nil
}
