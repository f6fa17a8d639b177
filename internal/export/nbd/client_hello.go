package nbd

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// hello is the client's side of the handshake.
type hello struct {
	nc net.Conn
	br *bufio.Reader
}

func (h *hello) run(name string, cfg *tls.Config) (*Client, error) {
	var b [18]byte
	if err := h.read(b[:]); err != nil {
		return nil, err
	}
	if be.Uint64(b[:]) != magicInit || be.Uint64(b[8:]) != magicOption || b[17]&flagFixedNewstyle == 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "what answers there is no nbd server of the fixed newstyle")
	}
	flags := uint32(b[17]) & (flagFixedNewstyle | flagNoZeroes)
	if _, err := h.nc.Write(be.AppendUint32(nil, flags)); err != nil {
		return nil, err
	}
	if cfg != nil {
		if err := h.startTLS(cfg); err != nil {
			return nil, err
		}
	}
	c := &Client{flying: map[uint64]*call{}, received: make(chan struct{})}
	if err := h.option(optStructuredReply, nil, nil); err != nil {
		return nil, err
	}
	err := h.option(optSetMetaContext, appendMeta(nil, name, contextAlloc), func(typ uint32, data []byte) {
		c.status = c.status || typ == repMetaContext
	})
	if err != nil && !holdfast.IsKind(err, holdfast.Invalid) {
		return nil, err
	}
	h.nc.SetDeadline(time.Time{}) // the volume may take its time to open
	err = h.option(optGo, appendGo(nil, name, infoBlockSize), func(typ uint32, data []byte) {
		if typ == repInfo && len(data) == 12 && be.Uint16(data) == infoExport {
			c.size, c.flags = int64(be.Uint64(data[2:])), be.Uint16(data[10:])
		}
	})
	if err == nil && (c.size < 0 || c.flags&tfHasFlags == 0) {
		err = holdfast.Errorf(holdfast.Invalid, "the server describes no export")
	}
	c.nc = h.nc
	return c, err
}

func (h *hello) startTLS(cfg *tls.Config) error {
	if err := h.option(optStartTLS, nil, nil); err != nil {
		return err
	}
	if h.br.Buffered() > 0 {
		return holdfast.Errorf(holdfast.Denied, "the server sent plaintext after STARTTLS")
	}
	conn := tls.Client(h.nc, cfg)
	if err := conn.Handshake(); err != nil {
		return holdfast.Errorf(holdfast.Denied, "TLS with the nbd server: %w", err)
	}
	h.nc = conn
	h.br.Reset(conn)
	return nil
}

func (h *hello) read(b []byte) error {
	if _, err := io.ReadFull(h.br, b); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "the nbd server left during the handshake: %w", err)
	}
	return nil
}

// option sends one option and hands the replies before the last to each.
func (h *hello) option(opt uint32, data []byte, each func(typ uint32, data []byte)) error {
	b := be.AppendUint64(nil, magicOption)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, uint32(len(data)))
	if _, err := h.nc.Write(append(b, data...)); err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "write to the nbd server: %w", err)
	}
	for {
		var r [20]byte
		if err := h.read(r[:]); err != nil {
			return err
		}
		n := be.Uint32(r[16:])
		if be.Uint64(r[:]) != magicOptReply || be.Uint32(r[8:]) != opt || n > maxOption {
			return holdfast.Errorf(holdfast.Invalid, "the nbd server's answer to option %d makes no sense", opt)
		}
		reply := make([]byte, n)
		if err := h.read(reply); err != nil {
			return err
		}
		switch typ := be.Uint32(r[12:]); {
		case typ == repAck:
			return nil
		case typ&repErr != 0:
			return optionError(typ, string(reply))
		case each != nil:
			each(typ, reply)
		}
	}
}

// optionError turns a refusal into an error of a kind.
func optionError(typ uint32, why string) error {
	kind := holdfast.Invalid
	switch typ {
	case repErrPolicy:
		kind = holdfast.Busy
	case repErrTLSReqd:
		kind = holdfast.Denied
	case repErrUnknown:
		kind = holdfast.NotFound
	case repErrShutdown:
		kind = holdfast.Unavailable
	}
	return holdfast.Errorf(kind, "the nbd server refuses: %s (reply %d)", why, typ&^repErr)
}
