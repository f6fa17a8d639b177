package alert

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// post is a mail server of one test (RFC 5321), which knows one user.
type post struct {
	startTLS, tls bool
	ways          string            // of authentication
	answers       map[string]string // instead of the usual one, by command

	secured bool
	user    string // who logged in
	from    string
	to      []string
	data    string
}

// serve takes mail and returns how to send it there, and a wait until it has ended.
func (p *post) serve(t *testing.T) (r Receiver, ended func() *post) {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	certs.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		l.Close()
		if err != nil {
			return
		}
		if p.tls {
			conn = tls.Server(conn, certs.TLS)
			p.secured = true
		}
		p.talk(conn, certs.TLS)
		conn.Close()
	}()
	t.Cleanup(func() { l.Close(); <-done })
	_, web := hook(t, nil)
	r = Receiver{Name: "mail", Kind: Mail, Severity: "warning", Private: true, CA: web.CA, Server: l.Addr().String(), TLS: StartTLS, From: "holdfast@example.org", To: []string{"ops@example.org", "night@example.org"}}
	return r, func() *post { l.Close(); <-done; return p }
}

func (p *post) talk(conn net.Conn, conf *tls.Config) {
	in := bufio.NewReader(conn)
	say := func(format string, a ...any) { fmt.Fprintf(conn, format+"\r\n", a...) }
	say("220 mail.example.org")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		if answer, ok := p.answers[verb]; ok {
			if answer == "" {
				return
			}
			say("%s", answer)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-mail.example.org")
			if p.startTLS && !p.secured {
				say("250-STARTTLS")
			}
			if p.ways != "" {
				say("250-AUTH %s", p.ways)
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, conf)
			in, p.secured = bufio.NewReader(conn), true
			say2 := conn
			say = func(format string, a ...any) { fmt.Fprintf(say2, format+"\r\n", a...) }
		case "AUTH":
			p.auth(rest, in, say)
		case "MAIL":
			p.from = rest
			say("250 ok")
		case "RCPT":
			p.to = append(p.to, rest)
			say("250 ok")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			p.data = b.String()
			say("250 queued")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 %s?", verb)
		}
	}
}

func (p *post) auth(rest string, in *bufio.Reader, say func(string, ...any)) {
	ok := false
	if first, ok2 := strings.CutPrefix(rest, "PLAIN "); ok2 {
		b, _ := base64.StdEncoding.DecodeString(first)
		ok = string(b) == "\x00ann\x00"+secret
	} else {
		say("334 %s", base64.StdEncoding.EncodeToString([]byte("<1@mail>")))
		line, _ := in.ReadString('\n')
		b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		h := hmac.New(md5.New, []byte(secret))
		h.Write([]byte("<1@mail>"))
		ok = string(b) == "ann "+hex.EncodeToString(h.Sum(nil))
	}
	if !ok {
		say("535 5.7.8 wrong")
		return
	}
	p.user = "ann"
	say("235 ok")
}

// Every way to a mail server brings the same letter.
func TestMailArrives(t *testing.T) {
	for _, c := range []struct {
		tls, ways, user string
		p               post
	}{
		{StartTLS, "", "", post{startTLS: true}},
		{StartTLS, "PLAIN LOGIN", "ann", post{startTLS: true}},
		{StartTLS, "LOGIN CRAM-MD5", "ann", post{startTLS: true}},
		{TLS, "PLAIN", "ann", post{tls: true}},
		{Plain, "", "", post{}},
	} {
		c.p.ways = c.ways
		r, ended := c.p.serve(t)
		if r.TLS, r.User = c.tls, c.user; c.user != "" {
			r.Password = secret
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		m := message()
		m.Alerts[0].Text = "VM Zürich\r\nBcc: evil@example.org\r\n\r\n.\r\nMAIL FROM:<x> 語 " + strings.Repeat("long ", 100)
		m.Alerts = append(m.Alerts, Alert{ID: "key-rotation", Change: Cleared, Severity: "info", Text: "."})
		answer, err := Send(t.Context(), &r, m, time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC))
		p := ended()
		if err != nil || answer != "taken for ops@example.org, night@example.org" || p.secured == (c.tls == Plain) || p.user != c.user {
			t.Fatalf("%s %s: %q, %v, %+v", c.tls, c.ways, answer, err, p)
		}
		if !strings.HasPrefix(p.from, "FROM:<holdfast@example.org>") || len(p.to) != 2 || p.to[1] != "TO:<night@example.org>" {
			t.Errorf("%q %q", p.from, p.to)
		}
		letter, err := mail.ReadMessage(strings.NewReader(p.data))
		if err != nil {
			t.Fatalf("%v\n%s", err, p.data)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject"))
		if err != nil || !strings.HasPrefix(subject, "[field] 2 alerts: VM Zürich  Bcc: evil@example.org") || letter.Header.Get("Bcc") != "" || len(letter.Header) != 9 {
			t.Errorf("%q, %v, %v", subject, letter.Header, err)
		}
		if at, err := letter.Header.Date(); err != nil || at.Unix() != 1772366405 || letter.Header.Get("Message-ID") != "<ops-7-0badcafe@example.org>" {
			t.Errorf("%v %v", letter.Header, err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(letter.Body))
		if text := strings.ReplaceAll(string(body), "\r\n", "\n"); err != nil || text != m.Text() || !strings.Contains(text, "\nERROR, raised: VM Zürich  Bcc: evil@example.org") ||
			!strings.Contains(text, "  - VM db1 does not run\n  what to do: holdfast runbook rack-away\n\nINFO, cleared: .\n") {
			t.Errorf("%v\n%s", err, text)
		}
		for _, line := range strings.Split(strings.TrimSuffix(p.data, "\r\n"), "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("a bad line: %q", line)
			}
		}
	}
}

// What a mail server refuses is said; nothing is sent in the clear that should not be.
func TestWhatAMailServerAnswers(t *testing.T) {
	for what, c := range map[string]struct {
		p        post
		tls      string
		kind     holdfast.Kind
		says     string
		password string
	}{
		"no STARTTLS":       {post{ways: "PLAIN"}, StartTLS, holdfast.Invalid, "offers no STARTTLS", secret},
		"a wrong password":  {post{startTLS: true, ways: "PLAIN"}, StartTLS, holdfast.Denied, "535 5.7.8 wrong", "another word"},
		"no such way":       {post{startTLS: true, ways: "LOGIN XPLAIN"}, StartTLS, holdfast.Invalid, "neither by PLAIN", secret},
		"no such address":   {post{startTLS: true, answers: map[string]string{"RCPT": "550 5.1.1 nobody\there"}}, StartTLS, holdfast.Invalid, "does not take it: 550 5.1.1 nobody here", ""},
		"it is busy":        {post{tls: true, answers: map[string]string{"DATA": "451 later"}}, TLS, holdfast.Unavailable, "cannot take it now: 451 later", ""},
		"it hangs up":       {post{tls: true, answers: map[string]string{"MAIL": ""}}, TLS, holdfast.Unavailable, "cannot be reached", ""},
		"it speaks no TLS":  {post{}, TLS, holdfast.Unavailable, "cannot be reached", ""},
		"STARTTLS is a lie": {post{startTLS: true, answers: map[string]string{"STARTTLS": "220 go on"}}, StartTLS, holdfast.Unavailable, "cannot be reached", ""},
	} {
		r, ended := c.p.serve(t)
		if r.TLS = c.tls; c.password != "" {
			r.User, r.Password = "ann", "another word"
			if c.password == secret {
				r.Password = secret
			}
		}
		_, err := Send(t.Context(), &r, message(), time.Now())
		p := ended()
		if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "another word") {
			t.Errorf("%s: %v", what, err)
		}
		if p.data != "" || p.user != "" {
			t.Errorf("%s: %+v", what, p)
		}
	}
	r, ended := (&post{}).serve(t)
	r.Private = false
	if _, err := Send(t.Context(), &r, message(), time.Now()); !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("%v", err)
	}
	if p := ended(); p.from != "" {
		t.Errorf("%+v", p)
	}
}

// A test says that it is one.
func TestATestMessage(t *testing.T) {
	m := &Message{Kind: Test, Receiver: "ops", Cluster: "field", Sentence: "x"}
	if m.Subject() != "[field] this is a test" || !strings.Contains(m.Text(), "nothing has happened") {
		t.Errorf("%s\n%s", m.Subject(), m.Text())
	}
	if got := (&Message{Kind: Reminder, Open: 1, Cluster: "field"}).Subject(); got != "[field] still 1 alert" {
		t.Error(got)
	}
	var b bytes.Buffer
	for _, r := range clip(strings.Repeat("語", 300), 200) {
		b.WriteRune(r)
	}
	if n := len([]rune(b.String())); n != 200 || !strings.HasSuffix(b.String(), "語…") || clip("語語", 2) != "語語" {
		t.Errorf("%d characters", n)
	}
}
