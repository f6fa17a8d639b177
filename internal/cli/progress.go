package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// bar shows how far something long has come: on a terminal as a bar, elsewhere
// as a line every few seconds, so that what takes long is seen to go on in a
// log, too.
type bar struct {
	p *mpb.Progress
	b *mpb.Bar
	l *lines
}

// sayEvery is how often a line is printed where there is no terminal.
const sayEvery = 5 * time.Second

// lines is the bar of those who have no terminal.
type lines struct {
	out         io.Writer
	what        string
	total, done int64
	begun, next time.Time
}

func (l *lines) add(n int64, now time.Time) {
	l.done += n
	if now.Before(l.next) || l.total == 0 {
		return
	}
	l.next = now.Add(sayEvery)
	rate := float64(l.done) / max(now.Sub(l.begun).Seconds(), 0.001)
	text := fmt.Sprintf("%s: %s, %s/s", l.what, formatSize(l.done), formatSize(int64(rate)))
	if l.total > 0 && l.done == 0 {
		text = fmt.Sprintf("%s: nothing of %s yet", l.what, formatSize(l.total))
	} else if l.total > 0 {
		left := time.Duration(float64(l.total-l.done) / max(rate, 1) * float64(time.Second)).Round(time.Second)
		text = fmt.Sprintf("%s: %d %% of %s, %s/s, %v left", l.what, l.done*100/l.total, formatSize(l.total), formatSize(int64(rate)), left)
	}
	fmt.Fprintln(l.out, text)
}

// counting reads and counts for lines.
type counting struct {
	io.Reader
	l *lines
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.l.add(int64(n), time.Now())
	return n, err
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
		now := time.Now()
		return &bar{l: &lines{out: a.Stderr, what: what, total: total, begun: now, next: now.Add(sayEvery)}}
	}
	p := mpb.New(mpb.WithOutput(a.Stderr), mpb.WithWidth(64))
	left := mpb.PrependDecorators(decor.Name(what + " "))
	if total < 0 {
		return &bar{p: p, b: p.New(0, mpb.SpinnerStyle(), left, mpb.AppendDecorators(
			decor.CurrentKibiByte("% .1f "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))}
	}
	return &bar{p: p, b: p.New(total, mpb.BarStyle(), left, mpb.AppendDecorators(
		decor.Percentage(), decor.Name(" "), decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name(" "),
		decor.AverageETA(decor.ET_STYLE_GO)))}
}

// reader counts what is read through it.
func (b *bar) reader(r io.Reader) io.Reader {
	if b.b == nil {
		return counting{r, b.l}
	}
	return b.b.ProxyReader(r)
}

// at says how much is done.
func (b *bar) at(done int64) {
	if b.b == nil {
		b.l.add(done-b.l.done, time.Now())
		return
	}
	b.b.SetCurrent(done)
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
