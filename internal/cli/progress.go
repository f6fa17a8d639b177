package cli

import (
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// bar shows how far something long has come, on a terminal; elsewhere it is
// silent.
type bar struct {
	p *mpb.Progress
	b *mpb.Bar
}

// terminal reports whether v is a terminal, and its descriptor.
func terminal(v any) (int, bool) {
	f, ok := v.(*os.File)
	if !ok {
		return 0, false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return int(f.Fd()), err == nil
}

// progress starts a bar for total bytes; total below zero is not known.
func (a *app) progress(what string, total int64) *bar {
	if _, ok := terminal(a.Stderr); !ok {
		return &bar{}
	}
	p := mpb.New(mpb.WithOutput(a.Stderr), mpb.WithWidth(64))
	left := mpb.PrependDecorators(decor.Name(what + " "))
	if total < 0 {
		return &bar{p, p.New(0, mpb.SpinnerStyle(), left, mpb.AppendDecorators(
			decor.CurrentKibiByte("% .1f "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))}
	}
	return &bar{p, p.New(total, mpb.BarStyle(), left, mpb.AppendDecorators(
		decor.Percentage(), decor.Name(" "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name(" "),
		decor.AverageETA(decor.ET_STYLE_GO)))}
}

// reader counts what is read through it.
func (b *bar) reader(r io.Reader) io.Reader {
	if b.b == nil {
		return r
	}
	return b.b.ProxyReader(r)
}

// done ends the bar.
func (b *bar) done(err error) {
	if b.b == nil {
		return
	}
	if err != nil {
		b.b.Abort(false)
	} else {
		b.b.SetTotal(-1, true)
	}
	b.p.Wait()
}
