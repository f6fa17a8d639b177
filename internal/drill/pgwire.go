package drill

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// pgConn is a session with a PostgreSQL server: the frontend/backend protocol
// 3.0 with simple queries in text form, and trust or clear-text password
// authentication, which is all that the drill needs (PostgreSQL manual, part
// "Frontend/Backend Protocol"). One goroutine uses it.
type pgConn struct {
	c net.Conn
	r *bufio.Reader
}

const (
	pgProtocol   = 3 << 16
	maxPGMessage = 16 << 20
)

// pgDial connects and logs in. limit bounds that, and every query after it.
func pgDial(ctx context.Context, addr, user, password, database string, limit time.Duration) (*pgConn, error) {
	dial := net.Dialer{Timeout: limit}
	c, err := dial.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "connect to the database: %w", err)
	}
	p := &pgConn{c: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(limit))
	if err := p.login(user, password, database); err != nil {
		c.Close()
		return nil, err
	}
	return p, nil
}

func (p *pgConn) close() { p.c.Close() }

func (p *pgConn) login(user, password, database string) error {
	b := binary.BigEndian.AppendUint32(nil, pgProtocol)
	for _, s := range []string{"user", user, "database", database, "application_name", "holdfast drill"} {
		b = append(append(b, s...), 0)
	}
	b = append(b, 0)
	head := binary.BigEndian.AppendUint32(nil, uint32(len(b)+4))
	if _, err := p.c.Write(append(head, b...)); err != nil {
		return lost(err)
	}
	for {
		kind, body, err := p.message()
		if err != nil {
			return err
		}
		switch kind {
		case 'R':
			if len(body) < 4 {
				return garbage("a short authentication request")
			}
			switch how := binary.BigEndian.Uint32(body); how {
			case 0:
			case 3:
				if err := p.send('p', password); err != nil {
					return err
				}
			default:
				return holdfast.Errorf(holdfast.Denied, "the database wants authentication method %d; the drill knows trust and clear-text passwords", how)
			}
		case 'E':
			return pgError(body)
		case 'Z':
			return nil
		}
	}
}

func (p *pgConn) send(kind byte, text string) error {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)+5))
	b = append(append(b, text...), 0)
	_, err := p.c.Write(b)
	return lost(err)
}

// query runs one statement and returns its rows as text. An error of kind
// Unavailable means that its outcome is not known; any other that the server
// refused it.
func (p *pgConn) query(sql string, limit time.Duration) (rows [][]string, err error) {
	_ = p.c.SetDeadline(time.Now().Add(limit))
	if err := p.send('Q', sql); err != nil {
		return nil, err
	}
	var refused error
	for {
		kind, body, err := p.message()
		if err != nil {
			return nil, err
		}
		switch kind {
		case 'D':
			row, err := pgRow(body)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		case 'E':
			refused = pgError(body)
		case 'Z':
			return rows, refused
		}
	}
}

// message reads one message: type, length including itself, body.
func (p *pgConn) message() (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, lost(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxPGMessage {
		return 0, nil, garbage("a message of impossible length")
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(p.r, body); err != nil {
		return 0, nil, lost(err)
	}
	return head[0], body, nil
}

// pgRow reads a DataRow: a count, then per column a length (-1: NULL) and its
// bytes.
func pgRow(b []byte) ([]string, error) {
	if len(b) < 2 {
		return nil, garbage("a row without a count")
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	var row []string
	for range n {
		if len(b) < 4 {
			return nil, garbage("a row that is cut short")
		}
		size := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if size < 0 {
			row = append(row, "")
			continue
		}
		if int(size) > len(b) {
			return nil, garbage("a row that is cut short")
		}
		row = append(row, string(b[:size]))
		b = b[size:]
	}
	return row, nil
}

// pgError reads an ErrorResponse: fields of a letter and a zero-ended string.
// Errors of class 57P (going down, starting up) are Unavailable.
func pgError(b []byte) error {
	var code, text string
	for len(b) > 1 && b[0] != 0 {
		value, rest, ok := strings.Cut(string(b[1:]), "\x00")
		switch b[0] {
		case 'C':
			code = value
		case 'M':
			text = value
		}
		if !ok {
			break
		}
		b = []byte(rest)
	}
	kind := holdfast.Other
	if strings.HasPrefix(code, "57P") {
		kind = holdfast.Unavailable
	}
	return holdfast.Errorf(kind, "the database answers: %s (%s)", text, code)
}

func lost(err error) error {
	if err == nil {
		return nil
	}
	return holdfast.Errorf(holdfast.Unavailable, "the connection to the database: %w", err)
}

func garbage(what string) error {
	return holdfast.Errorf(holdfast.Corrupt, "the database sent %s", what)
}
