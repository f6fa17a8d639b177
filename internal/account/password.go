package account

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of a password in bytes.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// The Argon2id parameters of new passwords (RFC 9106), and what is believed of a
// record. A log-in shall be possible on a host of 2 GB, and on a witness, beside
// everything else: one hash is made at a time.
const (
	argonTime   = 2
	argonMemory = 19 << 10 // KiB
	argonLanes  = 1
	argonKey    = 32
	argonSalt   = 16

	maxArgonTime   = 16
	maxArgonMemory = 64 << 10
	maxArgonLanes  = 4
)

// hashed is a password's Argon2id hash with its parameters.
type hashed struct {
	time, memory uint32
	lanes        uint8
	salt, key    []byte
}

// String is the usual text of it: $argon2id$v=19$m=…,t=…,p=…$SALT$KEY, both in
// base64 without padding.
func (h hashed) String() string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.lanes, b.EncodeToString(h.salt), b.EncodeToString(h.key))
}

// parseHash reads what String wrote, and nothing that is spelt otherwise.
func parseHash(text string) (hashed, error) {
	bad := holdfast.Errorf(holdfast.Invalid, "its password is not an Argon2id hash within bounds")
	if len(text) > 256 {
		return hashed{}, bad
	}
	f := strings.Split(text, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return hashed{}, bad
	}
	var h hashed
	var lanes uint32
	p := strings.Split(f[3], ",")
	if len(p) != 3 || !number(p[0], "m=", &h.memory) || !number(p[1], "t=", &h.time) || !number(p[2], "p=", &lanes) {
		return hashed{}, bad
	}
	var err, err2 error
	h.salt, err = base64.RawStdEncoding.Strict().DecodeString(f[4])
	h.key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.key) != argonKey ||
		lanes < 1 || lanes > maxArgonLanes || h.time < 1 || h.time > maxArgonTime || h.memory < 8*lanes || h.memory > maxArgonMemory {
		return hashed{}, bad
	}
	h.lanes = uint8(lanes)
	if h.String() != text {
		return hashed{}, bad
	}
	return h, nil
}

func number(text, prefix string, to *uint32) bool {
	s, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.ParseUint(s, 10, 32)
	*to = uint32(n)
	return ok && err == nil
}

// CheckPassword refuses a password that may not be set.
func CheckPassword(user, password string) error {
	switch {
	case len(password) < MinPassword || len(password) > MaxPassword:
		return holdfast.Errorf(holdfast.Invalid, "the password has %d bytes: %d to %d are allowed; several random words are easy to keep", len(password), MinPassword, MaxPassword)
	case strings.EqualFold(password, user) || strings.Count(password, password[:1]) == len(password):
		return holdfast.Errorf(holdfast.Invalid, "the password is the first that somebody would try; take another")
	}
	return nil
}

// hasher makes one hash at a time, and lets few wait for it.
type hasher struct {
	random  io.Reader
	kdf     func(password, salt []byte, time, memory uint32, lanes uint8, keyLen uint32) []byte // argon2.IDKey
	working sync.Mutex
	mu      sync.Mutex
	waiting int
}

// maxWaiting hashes are waited for at once: about half a second on a slow
// processor.
const maxWaiting = 16

func (s *hasher) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= maxWaiting {
		return &TooMany{After: time.Second, why: "this host checks as many passwords as it can"}
	}
	s.waiting++
	return nil
}

func (s *hasher) leave() {
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
}

func (s *hasher) derive(h hashed, password string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.working.Lock()
	defer s.working.Unlock()
	return s.kdf([]byte(password), h.salt, h.time, h.memory, h.lanes, argonKey), nil
}

// hash returns what a record keeps of a password.
func (s *hasher) hash(password string) (Secret, error) {
	h := hashed{time: argonTime, memory: argonMemory, lanes: argonLanes, salt: make([]byte, argonSalt)}
	if _, err := io.ReadFull(s.random, h.salt); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "no random bytes for a salt: %w", err)
	}
	key, err := s.derive(h, password)
	h.key = key
	return Secret(h.String()), err
}

// nobody stands for the password of users who have none or are not there: to
// find that out takes as long as any other answer.
func nobody() hashed {
	return hashed{time: argonTime, memory: argonMemory, lanes: argonLanes, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}
}

// matches compares a password with a record's; an empty one matches nothing, in
// the same time.
func (s *hasher) matches(record Secret, password string) (bool, error) {
	h, none := nobody(), true
	if p, err := parseHash(string(record)); record != "" && err == nil {
		h, none = p, false
	}
	if len(password) > MaxPassword {
		password, none = "", true
	}
	key, err := s.derive(h, password)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, h.key) == 1 && !none, nil
}
