// Package image turns disk images into volumes. It imports raw disks as a
// stream, of known or unknown size, with little memory, leaving out what is
// zero. QCOW2 files, and what they are laid on, it opens for that; other
// formats it recognises and names.
package image

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// bufferSize is how much of an image is held in memory, in bytes; also the
// longest write. A multiple of the block size.
const bufferSize = 4 << 20

// UnknownSize is the size of a stream that does not say how long it is.
const UnknownSize = -1

// Sink is the volume that an image is written to. Import calls it from one
// task, in rising order of offsets.
type Sink interface {
	// Reserve is called before anything below size is written, with the
	// image's size rounded up to whole blocks: once, at the start, if it is
	// known, and otherwise with what is known so far. The last call names the
	// final size.
	Reserve(size int64) error
	// WriteAt writes p, whole blocks that are not zero, at a multiple of the
	// block size. It must not keep p.
	WriteAt(p []byte, off int64) (int, error)
	// Flush makes everything durable; it is called once, at the end.
	Flush() error
}

// Progress says how far an import is.
type Progress struct {
	Done   int64         // bytes of the image read
	Stored int64         // of these, bytes written since they are not zero
	Total  int64         // bytes of the image, or UnknownSize
	Rate   int64         // bytes per second, lately
	ETA    time.Duration // until Done is Total; negative if not known
}

// Options of an import.
type Options struct {
	// Size of the image in bytes, or UnknownSize.
	Size int64
	// Max is the largest size that may be imported, in bytes; 0 is the
	// largest volume.
	Max int64
	// AsIs keeps the bytes as they are, whatever they look like.
	AsIs bool
	// Progress, if not nil, is called about twice a second and at the end.
	Progress func(Progress)
	Clock    clock.Clock
}

// Result of an import.
type Result struct {
	Size   int64 // of the volume: the image's, rounded up to whole blocks
	Stored int64 // bytes that were written
}

// Import copies a raw image from r to w. Errors: Invalid if the image is
// empty, is not raw, or ends before or goes on after Options.Size; NoSpace if
// it is larger than Options.Max; and those of r and w. What was written before
// an error is the caller's to delete.
func Import(r io.Reader, w Sink, opt Options) (Result, error) {
	im := &importer{r: r, w: w, opt: opt, buf: make([]byte, bufferSize)}
	if im.opt.Max <= 0 {
		im.opt.Max = holdfast.MaxVolumeBlocks * holdfast.BlockSize
	}
	if err := im.run(); err != nil {
		return Result{}, err
	}
	return Result{Size: blocks(im.done), Stored: im.stored}, nil
}

// blocks rounds n bytes up to whole blocks.
func blocks(n int64) int64 {
	return (n + holdfast.BlockSize - 1) / holdfast.BlockSize * holdfast.BlockSize
}

type importer struct {
	r   io.Reader
	w   Sink
	opt Options
	buf []byte

	done   int64
	stored int64
	tail   []byte // the last bytes read, at most vhdFooterSize
	meter  meter
}

func (im *importer) run() error {
	if err := im.checkSize(); err != nil {
		return err
	}
	im.meter.start(im.opt.Clock)
	for {
		n, err := im.fill()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := im.store(im.buf[:n]); err != nil {
			return err
		}
		im.done += int64(n)
		im.report(false)
	}
	return im.finish()
}

// checkSize refuses by the announced size what cannot be imported.
func (im *importer) checkSize() error {
	size := im.opt.Size
	switch {
	case size == 0:
		return errEmpty()
	case size > im.opt.Max:
		return im.errTooLarge(size)
	case size > 0:
		return im.reserve(size)
	}
	return nil
}

func errEmpty() error {
	return holdfast.Errorf(holdfast.Invalid, "the image is empty: it has no bytes; check the file or the command that feeds it")
}

func (im *importer) errTooLarge(size int64) error {
	return holdfast.Errorf(holdfast.NoSpace,
		"the image has %s or more, and there is room for %s: free space, add a disk, or import a smaller image",
		human(size), human(im.opt.Max))
}

func (im *importer) reserve(size int64) error {
	if err := im.w.Reserve(blocks(size)); err != nil {
		return wrap(err, "make room for an image of %s", human(size))
	}
	return nil
}

// fill reads the next buffer and checks what can be seen of it.
func (im *importer) fill() (int, error) {
	n, err := io.ReadFull(im.r, im.buf)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, wrap(err, "the image broke off after %s", human(im.done+int64(n)))
	}
	size := im.done + int64(n)
	if im.done == 0 && !im.opt.AsIs {
		if f := Sniff(im.buf[:min(n, SniffLen)]); f != Raw {
			return 0, NotRaw(f)
		}
	}
	switch {
	case size == 0:
		return 0, errEmpty()
	case im.opt.Size > 0 && size > im.opt.Size:
		return 0, holdfast.Errorf(holdfast.Invalid,
			"the image goes on after the %d bytes that were announced: announce its real size, or none", im.opt.Size)
	case n < len(im.buf) && im.opt.Size > 0 && size < im.opt.Size:
		return 0, holdfast.Errorf(holdfast.Invalid,
			"the image is truncated: %d bytes of %d came (%s are missing); check the file and import it again",
			size, im.opt.Size, human(im.opt.Size-size))
	case size > im.opt.Max:
		return 0, im.errTooLarge(size)
	}
	return n, nil
}

// NotRaw is the error for an image of a format that cannot be imported as it
// is: it names the format and what to do.
func NotRaw(f Format) error {
	t := f.trait()
	return holdfast.Errorf(holdfast.Invalid, "this is a %s, not a raw disk: %s", t.name, t.advice)
}

// store writes the runs of blocks of b that are not zero. b may end inside a
// block only at the end of the image.
func (im *importer) store(b []byte) error {
	im.keepTail(b)
	if rest := len(b) % holdfast.BlockSize; rest != 0 {
		end := len(b)
		b = b[:end+holdfast.BlockSize-rest]
		clear(b[end:])
	}
	for at := 0; at < len(b); {
		n := run(b[at:])
		if n == 0 {
			at += holdfast.BlockSize
			continue
		}
		off := im.done + int64(at)
		if im.opt.Size < 0 {
			if err := im.reserve(off + int64(n)); err != nil {
				return err
			}
		}
		if _, err := im.w.WriteAt(b[at:at+n], off); err != nil {
			return wrap(err, "write %s of the image at %d", human(int64(n)), off)
		}
		im.stored += int64(n)
		at += n
	}
	return nil
}

// run returns the length of the blocks at the start of b that are not zero.
func run(b []byte) int {
	n := 0
	for n < len(b) && !qcow2.Zero(b[n:n+holdfast.BlockSize]) {
		n += holdfast.BlockSize
	}
	return n
}

func (im *importer) keepTail(b []byte) {
	im.tail = append(im.tail, b[max(0, len(b)-vhdFooterSize):]...)
	im.tail = im.tail[max(0, len(im.tail)-vhdFooterSize):]
}

func (im *importer) finish() error {
	if !im.opt.AsIs && im.done > vhdFooterSize && bytes.HasPrefix(im.tail, []byte(vhdFooter)) {
		return NotRaw(VHD)
	}
	if im.opt.Size < 0 {
		if err := im.reserve(im.done); err != nil {
			return err
		}
	}
	if err := im.w.Flush(); err != nil {
		return wrap(err, "make the image durable")
	}
	im.report(true)
	return nil
}

// wrap says what was being done, and keeps the kind of the cause.
func wrap(err error, format string, args ...any) error {
	kind := holdfast.KindOf(err)
	if kind == holdfast.Other {
		kind = holdfast.IO
	}
	return holdfast.Errorf(kind, format+": %w", append(args, err)...)
}
