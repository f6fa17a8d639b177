package v1

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// JoinCode admits one host to a cluster, once. Its text is
// "hf1-" and base64url of JSON; see docs/protocol/api.md.
type JoinCode struct {
	// API are host:port addresses of members' HTTPS APIs, tried in turn.
	API []string `json:"a"`
	// CA is the SHA-256 of the cluster CA certificate's DER bytes: the joiner
	// trusts exactly this CA.
	CA [32]byte `json:"-"`
	// Secret is the proof of invitation, 128 bits or more.
	Secret []byte `json:"s"`
}

const (
	codePrefix   = "hf1-"
	maxCodeText  = 4096
	maxCodeAddrs = 16
)

type codeJSON struct {
	API    []string `json:"a"`
	CA     []byte   `json:"c"`
	Secret []byte   `json:"s"`
}

// String returns the text that people copy.
func (c JoinCode) String() string {
	b, err := json.Marshal(codeJSON{c.API, c.CA[:], c.Secret})
	if err != nil {
		return "" // strings and bytes always marshal
	}
	return codePrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseJoinCode reads the text; surrounding space is ignored, so that a code
// that was copied with its line ending still works.
func ParseJoinCode(s string) (JoinCode, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxCodeText {
		return JoinCode{}, badCode("it is too long")
	}
	rest, ok := strings.CutPrefix(s, codePrefix)
	if !ok {
		return JoinCode{}, badCode("it does not start with " + codePrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil {
		return JoinCode{}, badCode("it is cut short or mistyped")
	}
	var j codeJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return JoinCode{}, badCode("it is cut short or mistyped")
	}
	return j.check()
}

func (j codeJSON) check() (JoinCode, error) {
	switch {
	case len(j.CA) != 32:
		return JoinCode{}, badCode("it holds no fingerprint of the cluster's CA")
	case len(j.Secret) < 16 || len(j.Secret) > 64:
		return JoinCode{}, badCode("its secret is not 16 to 64 bytes long")
	case len(j.API) == 0 || len(j.API) > maxCodeAddrs:
		return JoinCode{}, badCode("it names no host to call, or too many")
	}
	for _, a := range j.API {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return JoinCode{}, badCode("one of its addresses is not host:port")
		}
	}
	return JoinCode{API: j.API, CA: [32]byte(j.CA), Secret: j.Secret}, nil
}

func badCode(why string) error {
	return holdfast.Errorf(holdfast.Invalid,
		"this is not a join code: %s; copy the whole line that 'holdfast host code' printed on a member", why)
}
