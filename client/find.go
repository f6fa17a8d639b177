package client

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// DefaultSocket is where a host's API socket is unless its configuration says
// otherwise.
const DefaultSocket = "/var/lib/holdfast/api.sock"

// Choice says which host to call; the first that is set counts, then the
// environment, then the host on this machine, then the current lab.
type Choice struct {
	Socket     string // path of an API socket
	Host       string // host:port of an HTTPS API
	Credential string // directory for Host, as 'cluster init' writes it
	Getenv     func(string) string
}

// Current is what `holdfast lab up` leaves behind so that other commands find
// the lab.
type Current struct {
	Dir     string   `json:"dir"`
	Sockets []string `json:"sockets"`
}

// CurrentFile returns where Current is kept.
func CurrentFile(getenv func(string) string) string {
	base := getenv("XDG_STATE_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".local", "state")
	}
	return filepath.Join(base, "holdfast", "current.json")
}

// ReadCurrent returns the current lab, if there is one.
func ReadCurrent(getenv func(string) string) (Current, bool) {
	var c Current
	b, err := os.ReadFile(CurrentFile(getenv))
	return c, err == nil && json.Unmarshal(b, &c) == nil && len(c.Sockets) > 0
}

// Connect makes a client by choice.
func Connect(ctx context.Context, ch Choice) (*Client, error) {
	if ch.Socket != "" {
		return Socket(ch.Socket), nil
	}
	host, cred := ch.Host, ch.Credential
	if host == "" {
		if s := ch.Getenv("HOLDFAST_SOCKET"); s != "" {
			return Socket(s), nil
		}
		host = ch.Getenv("HOLDFAST_HOST")
	}
	if host != "" {
		if cred == "" {
			cred = ch.Getenv("HOLDFAST_CREDENTIAL")
		}
		if cred == "" {
			return nil, holdfast.Errorf(holdfast.Invalid, "calling %s needs a credential; give the directory that 'cluster init' wrote with --credential or HOLDFAST_CREDENTIAL", host)
		}
		conf, err := LoadTLS(cred)
		if err != nil {
			return nil, err
		}
		return HTTPS(host, conf), nil
	}
	if _, err := os.Stat(DefaultSocket); err == nil {
		return Socket(DefaultSocket), nil
	}
	if lab, ok := ReadCurrent(ch.Getenv); ok {
		return firstAnswering(ctx, lab.Sockets), nil
	}
	return nil, holdfast.Errorf(holdfast.Unavailable, "no host to talk to: there is no socket at %s and no lab is up; use --socket or --host, run 'holdfast serve' or 'holdfast lab up'", DefaultSocket)
}

// firstAnswering skips hosts that are dead or do not answer within a second,
// for in a lab that is often what is being tried out. If none answers the
// first is returned, whose error then says so.
func firstAnswering(ctx context.Context, sockets []string) *Client {
	for _, s := range sockets {
		c := Socket(s)
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.Self(try)
		cancel()
		if err == nil {
			return c
		}
		c.Close()
	}
	return Socket(sockets[0])
}
