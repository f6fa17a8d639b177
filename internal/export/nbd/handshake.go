package nbd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// readBuffer is how much is read from a client at once, in bytes: some dozens
// of 4 KiB writes.
const readBuffer = 128 << 10

// house is what a handshake may find out: the volumes behind one socket.
type house interface {
	// find returns the volume of a name; the empty name is the default one.
	find(name string) (string, export.Target, bool)
	// list returns the names in order.
	list() []string
	// open binds the connection to a volume and opens it. shared: another
	// connection may write it beside this one.
	open(name string, readOnly bool) (d export.Disk, shared bool, err error)
}

// handshake is the state of one option haggling.
type handshake struct {
	house    house
	tls      *tls.Config // nil where STARTTLS is not offered
	needTLS  bool        // nothing else is accepted before STARTTLS
	options  int         // how many are still accepted
	nc       net.Conn
	br       *bufio.Reader
	out      []byte // replies to the current option
	noZeroes bool

	// What the client has negotiated; STARTTLS forgets it.
	structured bool
	extended   bool // headers, which imply structured replies
	selected   selection
}

// agreement is the outcome of a handshake.
type agreement struct {
	nc         net.Conn
	br         *bufio.Reader
	disk       export.Disk
	name       string
	readOnly   bool
	multi      bool // further connections are let in beside this one
	structured bool
	extended   bool
	contexts   []context
}

// errLeft says that the client ended the haggling in an orderly way.
var errLeft = errors.New("the client left during the handshake")

// run greets the client and answers options until it has chosen an export.
func (h *handshake) run() (*agreement, error) {
	h.br = bufio.NewReaderSize(h.nc, readBuffer)
	b := be.AppendUint64(nil, magicInit)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	if _, err := h.nc.Write(b); err != nil {
		return nil, err
	}
	var f [4]byte
	if _, err := io.ReadFull(h.br, f[:]); err != nil {
		return nil, err
	}
	flags := be.Uint32(f[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return nil, errGarbage("client flags %#x", flags)
	}
	h.noZeroes = flags&flagNoZeroes != 0
	for ; h.options > 0; h.options-- {
		opt, data, err := h.readOption()
		if err != nil {
			return nil, err
		}
		if a, err := h.answer(opt, data); a != nil || err != nil {
			return a, err
		}
		if err := h.send(); err != nil {
			return nil, err
		}
	}
	return nil, errGarbage("more options than a client can need")
}

func (h *handshake) readOption() (opt uint32, data []byte, err error) {
	var b [16]byte
	if _, err := io.ReadFull(h.br, b[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = errLeft
		}
		return 0, nil, err
	}
	if be.Uint64(b[:]) != magicOption {
		return 0, nil, errGarbage("no option starts with % x", b[:8])
	}
	n := be.Uint32(b[12:])
	if n > maxOption {
		return 0, nil, errGarbage("an option of %d bytes; at most %d are read", n, maxOption)
	}
	data = make([]byte, n)
	_, err = io.ReadFull(h.br, data)
	return be.Uint32(b[8:]), data, err
}

// answer handles one option. It returns an agreement when the transmission
// phase begins, and an error when the connection shall end.
func (h *handshake) answer(opt uint32, data []byte) (*agreement, error) {
	if h.needTLS && opt != optStartTLS && opt != optAbort {
		if opt == optExportName {
			return nil, errGarbage("NBD_OPT_EXPORT_NAME before STARTTLS")
		}
		h.reply(opt, repErrTLSReqd, "this server talks only over TLS with a client certificate")
		return nil, nil
	}
	switch opt {
	case optExportName:
		return h.exportName(data)
	case optAbort:
		h.reply(opt, repAck, "")
		h.send()
		return nil, errLeft
	case optStartTLS:
		return nil, h.startTLS(data)
	case optList:
		h.list(data)
	case optInfo, optGo:
		return h.infoOrGo(opt, data)
	case optStructuredReply, optExtendedHeaders:
		h.headers(opt, data)
	case optListMetaContext, optSetMetaContext:
		return nil, h.metaContext(opt, data)
	default:
		h.reply(opt, repErrUnsup, "")
	}
	return nil, nil
}

// headers agrees on what requests and replies look like.
func (h *handshake) headers(opt uint32, data []byte) {
	switch {
	case len(data) != 0:
		h.reply(opt, repErrInvalid, "the option takes no data")
	case opt == optStructuredReply && h.extended:
		h.reply(opt, repErrExtended, "extended headers have been negotiated, which are more")
	case opt == optExtendedHeaders && h.extended:
		h.reply(opt, repErrInvalid, "extended headers have been negotiated already")
	default:
		h.structured, h.extended = true, opt == optExtendedHeaders
		h.reply(opt, repAck, "")
	}
}

// reply queues one option reply.
func (h *handshake) reply(opt, typ uint32, data string) {
	h.out = be.AppendUint64(h.out, magicOptReply)
	h.out = be.AppendUint32(h.out, opt)
	h.out = be.AppendUint32(h.out, typ)
	h.out = be.AppendUint32(h.out, uint32(len(data)))
	h.out = append(h.out, data...)
}

func (h *handshake) send() error {
	_, err := h.nc.Write(h.out)
	h.out = h.out[:0]
	return err
}

func (h *handshake) startTLS(data []byte) error {
	switch {
	case len(data) != 0:
		h.reply(optStartTLS, repErrInvalid, "the option takes no data")
		return nil
	case h.tls == nil:
		h.reply(optStartTLS, repErrUnsup, "")
		return nil
	case !h.needTLS:
		h.reply(optStartTLS, repErrInvalid, "TLS has already been negotiated")
		return nil
	case h.br.Buffered() > 0:
		// Plaintext sent ahead would be taken for what TLS protects.
		return errGarbage("data after STARTTLS and before its answer")
	}
	h.reply(optStartTLS, repAck, "")
	if err := h.send(); err != nil {
		return err
	}
	conn := tls.Server(h.nc, h.tls)
	if err := conn.Handshake(); err != nil {
		return holdfast.Errorf(holdfast.Denied, "TLS handshake: %w", err)
	}
	h.nc, h.needTLS = conn, false
	h.br.Reset(conn)
	h.structured, h.extended, h.selected = false, false, selection{}
	return nil
}

func (h *handshake) list(data []byte) {
	if len(data) != 0 {
		h.reply(optList, repErrInvalid, "the option takes no data")
		return
	}
	for _, name := range h.house.list() {
		h.reply(optList, repServer, string(appendString(nil, name)))
	}
	h.reply(optList, repAck, "")
}
