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
	host, cred, err := ch.remote()
	if err != nil {
		return nil, err
	}
	if s := ch.Getenv("HOLDFAST_SOCKET"); s != "" && ch.Host == "" {
		return Socket(s), nil
	}
	if host != "" {
		return Open(host, cred)
	}
	if _, err := os.Stat(DefaultSocket); err == nil {
		return Socket(DefaultSocket), nil
	}
	if lab, ok := ReadCurrent(ch.Getenv); ok {
		return firstAnswering(ctx, lab.Sockets), nil
	}
	return nil, holdfast.Errorf(holdfast.Unavailable, "no host to talk to: there is no socket at %s and no lab is up; use --socket or --host, run 'holdfast serve' or 'holdfast lab up'", DefaultSocket)
}

// remote is which host is called over HTTPS, and with which credential; none if
// that is not chosen.
func (ch Choice) remote() (host, dir string, err error) {
	if host, dir = ch.Host, ch.Credential; host == "" {
		host = ch.Getenv("HOLDFAST_HOST")
	}
	if dir == "" {
		dir = ch.Getenv("HOLDFAST_CREDENTIAL")
	}
	if host != "" && dir == "" && (ch.Host != "" || ch.Getenv("HOLDFAST_SOCKET") == "") {
		err = holdfast.Errorf(holdfast.Invalid, "calling %s needs a credential; give the directory that 'cluster init' wrote with --credential or HOLDFAST_CREDENTIAL", host)
	}
	return host, dir, err
}

// Remote returns a client of the chosen host over HTTPS, for somebody who is yet
// to log in, and the credential directory. Kind Invalid: none was chosen.
func Remote(ch Choice) (*Client, string, error) {
	host, dir, err := ch.remote()
	if err == nil && (host == "" || dir == "") {
		err = holdfast.Errorf(holdfast.Invalid, "a session is for another computer: give --host and --credential, a directory with the cluster's %s. Here, the socket needs none", CAFile)
	}
	if err != nil {
		return nil, "", err
	}
	c, err := OpenStranger(host, dir)
	return c, dir, err
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
