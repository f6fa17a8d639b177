package backup

import (
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
)

// Damage is a place of a file that cannot be used.
type Damage struct {
	Offset int64  `json:"offset"` // in the file
	What   string `json:"what"`
	// What lies between From and To of the volume, in bytes, may be lost with it.
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Verdict is what a verification found.
type Verdict struct {
	Header  Header   `json:"header"`
	Whole   bool     `json:"whole"`   // to its end, every part matches its hash and its place
	Locked  bool     `json:"locked"`  // it is sealed, and there was no identity to open it
	Parts   uint64   `json:"parts"`   // that are good
	Data    int64    `json:"data"`    // bytes of the volume in them
	Zero    int64    `json:"zero"`    // bytes of it that read as zero
	Records uint64   `json:"records"` // of a cluster
	Length  int64    `json:"length"`  // bytes of the file that were read
	Sum     string   `json:"sum,omitempty"`
	Damage  []Damage `json:"damage,omitempty"`
}

// maxDamage bounds how much damage is listed.
const maxDamage = 1000

// Verify reads a file to its end and says what of it is good. Only a file whose
// header cannot be used, or that cannot be read, is an error. progress is told
// how many bytes were read.
func Verify(r *Reader, progress func(n int64)) (v Verdict, err error) {
	v.Header = r.header
	v.Locked = r.header.Sealed && len(r.ids) == 0
	var dst []byte
	for {
		p, err := r.Next()
		if err == nil && !p.Locked {
			// What does not decompress was never good: that is told, too.
			if b, uerr := p.Unpack(dst); uerr != nil {
				v.add(Damage{Offset: r.at - int64(r.taken), What: uerr.Error(), From: chunkFrom(&p), To: bytesOf(r.next)})
			} else if p.codec != codecNone {
				dst = b
			}
		}
		if progress != nil {
			progress(r.at)
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			v.Whole = len(v.Damage) == 0
			v.count(r)
			return v, nil
		case !holdfast.IsKind(err, holdfast.Corrupt):
			return v, err
		}
		d := Damage{Offset: r.at, What: err.Error(), From: bytesOf(r.next), To: bytesOf(r.limit)}
		err = r.resync()
		if err == nil {
			if p, _, perr := r.peek(); perr == nil && len(p.Extents) > 0 && bytesOf(p.Extents[0].Addr) >= d.From {
				d.To = bytesOf(p.Extents[0].Addr)
			}
		}
		v.add(d)
		if err == io.EOF {
			v.count(r)
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
}

func chunkFrom(p *Part) int64 {
	if len(p.Extents) == 0 {
		return 0
	}
	return bytesOf(p.Extents[0].Addr)
}

func bytesOf(blocks uint64) int64 { return int64(blocks) * holdfast.BlockSize }

func (v *Verdict) add(d Damage) {
	if len(v.Damage) < maxDamage {
		v.Damage = append(v.Damage, d)
	}
}

func (v *Verdict) count(r *Reader) {
	v.Parts, v.Data, v.Zero, v.Records, v.Length = r.totals.Parts, bytesOf(r.totals.Data), bytesOf(r.totals.Zero), r.totals.Records, r.at
	if v.Whole {
		v.Sum = fmt.Sprintf("%x", r.last)
	}
}

// Salvage reads the good beginning of an interrupted file, up to the first part
// that is not whole, so that Resume goes on there. whole is set if nothing is
// missing. The data of a sealed file need not be opened for that.
func Salvage(f io.Reader, ids []age.Identity) (r *Reader, whole bool, err error) {
	if r, err = NewReader(f, ids); err != nil {
		return nil, false, err
	}
	for {
		switch _, err := r.Next(); {
		case err == nil:
		case err == io.EOF:
			return r, true, nil
		case holdfast.IsKind(err, holdfast.Corrupt):
			return r, false, nil
		default:
			return nil, false, err
		}
	}
}
