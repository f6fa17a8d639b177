package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/holdfast-cloud/holdfast"
)

// lookTimeout is what an endpoint gets to say how it is.
const lookTimeout = 2 * time.Second

// usualQuota is etcd's own bound on its data if none is given.
const usualQuota = 2 << 30

// Seen is how one endpoint is, as it says itself.
type Seen struct {
	URL     string
	Err     error // why it is not used; nil: it answers and is a member of the right etcd
	Version string
	Leads   bool   // it has a leader, which may be itself
	Full    bool   // it takes no writes until its owner makes room
	Used    int64  // bytes of its data
	Quota   int64  // that it may have
	Etcd    uint64 // identity of the etcd
}

// Look asks every endpoint how it is, one after another.
func (s *Store) Look() []Seen {
	eps, _ := s.endpoints()
	out := make([]Seen, len(eps))
	for i, e := range eps {
		out[i] = s.look(e)
	}
	return out
}

func (s *Store) look(e *endpoint) Seen {
	out := Seen{URL: e.url}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	m := etcdserverpb.NewMaintenanceClient(e.conn)
	st, err := m.Status(ctx, &etcdserverpb.StatusRequest{}) // waits for a first connection, not for another
	if err != nil {
		out.Err = e.explain(err)
		return out
	}
	out.Version, out.Leads, out.Used, out.Quota, out.Etcd = st.Version, st.Leader != 0, st.DbSize, st.DbSizeQuota, st.Header.ClusterId
	if out.Quota <= 0 {
		out.Quota = usualQuota // older ones do not tell
	}
	if s.fence != "" { // to say how it is everybody may ask it, to read they may not
		_, err := etcdserverpb.NewKVClient(e.conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(s.fence), Serializable: true})
		if err != nil {
			out.Err = e.explain(err)
			return out
		}
	}
	al, err := m.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_GET})
	if err != nil {
		out.Err = e.explain(err)
		return out
	}
	for _, a := range al.Alarms {
		out.Full = out.Full || a.Alarm == etcdserverpb.AlarmType_NOSPACE
	}
	return out
}

// Open reports whether an endpoint lets somebody in who shows no certificate.
func Open(url string, conf *tls.Config) bool {
	bare := conf.Clone()
	bare.Certificates, bare.GetClientCertificate = nil, nil
	e, err := newEndpoint(url, bare, nil, nil)
	if err != nil {
		return false
	}
	defer e.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	_, err = etcdserverpb.NewMaintenanceClient(e.conn).Status(ctx, &etcdserverpb.StatusRequest{}, grpc.WaitForReady(true))
	return err == nil
}

// explain says of a failure at an endpoint what a person can do about it. A
// refused certificate may show as a connection that breaks while it is written to:
// then the endpoint's own word is fetched by listening alone.
func (e *endpoint) explain(err error) error {
	for _, broken := range []string{"broken pipe", "connection reset", "EOF", "server preface"} {
		if strings.Contains(err.Error(), broken) {
			if word := e.word(); word != nil {
				err = word
			}
			break
		}
	}
	return explain(e.url, err)
}

// word is the alert with which an endpoint ends a connection of ours, or nil.
func (e *endpoint) word() error {
	u, err := url.Parse(e.url)
	if err != nil {
		return nil
	}
	conf := e.tls.Clone()
	conf.NextProtos = []string{"h2"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: tryTimeout}, "tcp", hostPort(u), conf)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(tryTimeout))
		_, err = c.Read(make([]byte, 1)) // TLS 1.3 tells a client only now
	}
	if err != nil && strings.Contains(err.Error(), "remote error: tls:") {
		return err
	}
	return nil
}

// explain says of a failure what a person can do about it.
func explain(url string, err error) error {
	var not *notOurs
	if errors.As(err, &not) {
		return holdfast.Errorf(holdfast.Conflict, "%w", not)
	}
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("signed by unknown authority"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s: its certificate is of another authority than the one in kv.ca (--etcd-ca): %w", url, err)
	case has("certificate is valid for", "doesn't contain any IP SANs", "not valid for any names"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s: its certificate does not name this address; use an address that it names, or have it issued anew: %w", url, err)
	case has("expired or is not yet valid"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s: its certificate is not valid at this host's time (%s); look at the clock first: %w", url, time.Now().UTC().Format(time.RFC3339), err)
	case has("remote error: tls:"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s refuses this host's certificate, that in kv.cert (--etcd-cert): is it of the authority that the etcd was given as --trusted-ca-file? %w", url, err)
	case has("first record does not look like a TLS handshake"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s speaks plain text: start it with certificates; Holdfast's records hold secrets: %w", url, err)
	case has("authentication failed"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s does not let this host's user in: it does not know that user, or the password in kv.password_file (--etcd-password-file) is another: %w", url, err)
	case has("user name is empty", "permission denied", "invalid auth token"):
		return holdfast.Errorf(holdfast.Denied, "etcd %s has users, and this host's may not read and write below the prefix: that is kv.user with the password in kv.password_file (--etcd-user, --etcd-password-file), or without them the common name of its certificate. Give it a role that may ('etcdctl role grant-permission ROLE readwrite PREFIX --prefix=true', 'etcdctl user grant-role USER ROLE'): %w", url, err)
	case has("connection refused", "no route to host", "i/o timeout", "deadline exceeded", "DeadlineExceeded", "connect: "):
		return holdfast.Errorf(holdfast.Unavailable, "etcd %s does not answer: %w", url, err)
	}
	return holdfast.Errorf(holdfast.Unavailable, "etcd %s: %w", url, err)
}

// String says how an endpoint is, in a line.
func (s Seen) String() string {
	if s.Err != nil {
		return s.Err.Error()
	}
	return fmt.Sprintf("etcd %s, version %s, %d MiB of %d", s.URL, s.Version, s.Used>>20, s.Quota>>20)
}
