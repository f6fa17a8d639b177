package nbd

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// The ways into the transmission phase.

// exportName handles NBD_OPT_EXPORT_NAME, which cannot report an error: the
// connection ends instead.
func (h *handshake) exportName(data []byte) (*agreement, error) {
	name := string(data)
	if !validString(name) {
		return nil, errGarbage("an export name of %d bytes that is no string", len(data))
	}
	a, err := h.enter(name)
	if err != nil {
		return nil, err
	}
	h.out = be.AppendUint64(h.out, uint64(a.disk.Size()))
	h.out = be.AppendUint16(h.out, h.flags(a.readOnly, a.multi))
	if !h.noZeroes {
		h.out = append(h.out, make([]byte, 124)...)
	}
	return h.seal(a)
}

// infoOrGo handles NBD_OPT_INFO and NBD_OPT_GO.
func (h *handshake) infoOrGo(opt uint32, data []byte) (*agreement, error) {
	o, good := parseGo(data)
	if !good {
		h.reply(opt, repErrInvalid, "the option is malformed")
		return nil, nil
	}
	name, target, known := h.house.find(o.name)
	if !known {
		h.reply(opt, repErrUnknown, "no such volume here")
		return nil, nil
	}
	size, readOnly := target.Size(), target.ReadOnly()
	multi := readOnly
	if s, can := target.(export.Sharer); can && !readOnly {
		multi = s.Shared()
	}
	var a *agreement
	if opt == optGo {
		var err error
		if a, err = h.enter(o.name); err != nil {
			h.reply(opt, refusal(err), clip(err.Error()))
			return nil, nil
		}
		size, multi = a.disk.Size(), a.multi
	}
	h.info(opt, o, name, size, h.flags(readOnly, multi))
	h.reply(opt, repAck, "")
	if a == nil {
		return nil, nil
	}
	return h.seal(a)
}

// refusal is the option reply for a volume that could not be opened.
func refusal(err error) uint32 {
	switch holdfast.KindOf(err) {
	case holdfast.Busy, holdfast.Denied:
		return repErrPolicy
	case holdfast.Closed:
		return repErrShutdown
	}
	return repErrUnknown // "not available", now or ever
}

func clip(s string) string { return s[:min(len(s), maxMessage)] }

// info queues what is told about an export. The block sizes are the
// protocol's defaults; they are sent to whoever asks.
func (h *handshake) info(opt uint32, o goOption, name string, size int64, flags uint16) {
	b := be.AppendUint16(nil, infoExport)
	b = be.AppendUint64(b, uint64(size))
	b = be.AppendUint16(b, flags)
	h.reply(opt, repInfo, string(b))
	if o.wants(infoName) || name != o.name {
		h.reply(opt, repInfo, string(be.AppendUint16(nil, infoName))+name)
	}
	if o.wants(infoBlockSize) {
		b = be.AppendUint16(nil, infoBlockSize)
		b = be.AppendUint32(b, minBlock)
		b = be.AppendUint32(b, holdfast.BlockSize)
		b = be.AppendUint32(b, holdfast.MaxIO)
		h.reply(opt, repInfo, string(b))
	}
}

// enter opens the volume for this connection.
func (h *handshake) enter(name string) (*agreement, error) {
	canonical, target, known := h.house.find(name)
	if !known {
		return nil, holdfast.Errorf(holdfast.NotFound, "no volume %q is offered here", name)
	}
	readOnly := target.ReadOnly()
	disk, shared, err := h.house.open(canonical, readOnly)
	if err != nil {
		return nil, err
	}
	return &agreement{
		disk: disk, name: canonical, readOnly: readOnly, multi: readOnly || shared, structured: h.structured, extended: h.extended,
		contexts: h.chosen(canonical),
	}, nil
}

// seal sends the last reply of the handshake.
func (h *handshake) seal(a *agreement) (*agreement, error) {
	if err := h.send(); err != nil {
		a.disk.Close()
		return nil, err
	}
	a.nc, a.br = h.nc, h.br
	return a, nil
}

// flags are the transmission flags of an export. All sessions of a volume see
// and flush the same; multi says that there may be several: that nobody writes,
// or that its volume is shared, and written here.
func (h *handshake) flags(readOnly, multi bool) uint16 {
	f := uint16(tfHasFlags | tfFlush | tfFUA | tfCache)
	if readOnly {
		f |= tfReadOnly
	} else {
		f |= tfTrim | tfWriteZeroes | tfFastZero
	}
	if multi {
		f |= tfMultiConn
	}
	if h.structured {
		f |= tfDF
	}
	if h.extended {
		f |= tfStatusIDs
	}
	return f
}
