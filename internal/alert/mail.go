package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// mailTime is how long all of a delivery may take.
const mailTime = time.Minute

// mail tells by SMTP (RFC 5321) and returns what became of it. Kinds: Unavailable;
// Invalid, the server does not want it; Denied, nor the password, or its address is
// not allowed.
func (r *Receiver) mail(ctx context.Context, m *Message, now time.Time) (answer string, err error) {
	if r.User != "" && r.Password == "" {
		return "", holdfast.Errorf(holdfast.Denied, "its password is gone: the records were recovered from a disk that keeps none; give it again with 'holdfast alert receiver set %s --password-file FILE'", r.Name)
	}
	host, _, err := net.SplitHostPort(r.Server)
	if err != nil {
		return "", holdfast.Errorf(holdfast.Invalid, "server %.60q: give a name and a port", r.Server)
	}
	ctx, stop := context.WithTimeout(ctx, mailTime)
	defer stop()
	conn, err := r.dialer().DialContext(ctx, "tcp", r.Server)
	if err != nil {
		return "", unreached(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if r.TLS == TLS {
		secured := tls.Client(conn, r.trust(host))
		if err := secured.HandshakeContext(ctx); err != nil {
			return "", unreached(err)
		}
		conn = secured
	}
	if err := r.converse(conn, host, m, now); err != nil {
		if ctx.Err() != nil {
			return "", holdfast.Errorf(holdfast.Unavailable, "the mail server took too long")
		}
		return "", refusedMail(err)
	}
	return "taken for " + strings.Join(r.To, ", "), nil
}

// converse is the talk with a mail server.
func (r *Receiver) converse(conn net.Conn, host string, m *Message, now time.Time) error {
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	if r.TLS == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return holdfast.Errorf(holdfast.Invalid, "the mail server offers no STARTTLS: give tls (usual for port 465), or none if it may be in the clear")
		}
		if err := c.StartTLS(r.trust(host)); err != nil {
			return err
		}
	}
	if r.User != "" {
		way, err := r.auth(c, host)
		if err != nil {
			return err
		}
		if err := c.Auth(way); err != nil {
			var said *textproto.Error
			if errors.As(err, &said) && said.Code/100 == 5 {
				return holdfast.Errorf(holdfast.Denied, "the mail server does not take user and password: %d %s", said.Code, clip(oneLine(said.Msg), 200))
			}
			return err
		}
	}
	if err := c.Mail(r.From); err != nil {
		return err
	}
	for _, to := range r.To {
		if err := c.Rcpt(to); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(r.letter(m, now)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_ = c.Quit() // it has the mail
	return nil
}

// auth is PLAIN, which most servers have, or CRAM-MD5 where that is all there is.
func (r *Receiver) auth(c *smtp.Client, host string) (smtp.Auth, error) {
	_, ways := c.Extension("AUTH")
	switch known := strings.Fields(ways); {
	case slices.Contains(known, "PLAIN"):
		return smtp.PlainAuth("", r.User, string(r.Password), host), nil
	case slices.Contains(known, "CRAM-MD5"):
		return smtp.CRAMMD5Auth(r.User, string(r.Password)), nil
	}
	return nil, holdfast.Errorf(holdfast.Invalid, "the mail server takes a password neither by PLAIN nor by CRAM-MD5 (it offers %.60q): use one that does, or give no user", oneLine(ways))
}

func refusedMail(err error) error {
	var said *textproto.Error
	if errors.As(err, &said) {
		kind, verdict := holdfast.Unavailable, "cannot take it now"
		if said.Code/100 == 5 {
			kind, verdict = holdfast.Invalid, "does not take it"
		}
		return holdfast.Errorf(kind, "the mail server %s: %d %s", verdict, said.Code, clip(oneLine(said.Msg), 200))
	}
	return unreached(err)
}

// letter is the mail (RFC 5322): no line of it comes from a name or a text as it is.
func (r *Receiver) letter(m *Message, now time.Time) []byte {
	var b bytes.Buffer
	head := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	head("From", "<"+r.From+">")
	head("To", "<"+strings.Join(r.To, ">, <")+">")
	head("Subject", mime.QEncoding.Encode("utf-8", m.Subject()))
	head("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	head("Message-ID", "<"+m.ID+"@"+r.From[strings.LastIndexByte(r.From, '@')+1:]+">")
	head("Auto-Submitted", "auto-generated")
	head("MIME-Version", "1.0")
	head("Content-Type", "text/plain; charset=utf-8")
	head("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(m.Text(), "\n", "\r\n"))) // into memory
	_ = w.Close()
	return b.Bytes()
}
