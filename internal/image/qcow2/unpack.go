package qcow2

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a compressed cluster may ask for.
const maxWindow = 8 << 20

// unpacker decompresses clusters, and keeps the last.
type unpacker struct {
	zstd    bool
	at      int64 // of what is in last; 0: nothing
	last    []byte
	in      []byte
	source  bytes.Reader
	deflate io.ReadCloser
	frames  *zstd.Decoder
}

// cluster returns a compressed cluster, until the next call.
func (u *unpacker) cluster(r io.ReaderAt, x piece, size, length int64) ([]byte, error) {
	if u.at == x.at {
		return u.last, nil
	}
	if u.last == nil {
		u.last = make([]byte, size)
	}
	u.at = 0
	n := min(x.size, length-x.at)
	if int64(cap(u.in)) < n {
		u.in = make([]byte, n)
	}
	u.in = u.in[:n]
	if err := readFull(r, u.in, x.at); err != nil {
		return nil, err
	}
	u.source.Reset(u.in)
	from, err := u.decoder()
	if err == nil {
		_, err = io.ReadFull(from, u.last)
	}
	if err != nil {
		return nil, bad("what is compressed at %d cannot be decompressed: %v", x.at, err)
	}
	u.at = x.at
	return u.last, nil
}

// decoder begins to decompress u.source.
func (u *unpacker) decoder() (io.Reader, error) {
	switch {
	case u.zstd && u.frames == nil:
		var err error
		u.frames, err = zstd.NewReader(&u.source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		return u.frames, err
	case u.zstd:
		return u.frames, u.frames.Reset(&u.source)
	case u.deflate == nil:
		u.deflate = flate.NewReader(&u.source)
		return u.deflate, nil
	}
	return u.deflate, u.deflate.(flate.Resetter).Reset(&u.source, nil)
}
