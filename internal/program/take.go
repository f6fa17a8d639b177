package program

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// MaxSize is how large a program may be, in bytes. It has some 50 MB.
const MaxSize = 256 << 20

// Offer is a program that is sent to a host.
type Offer struct {
	Sum  string // SHA-256, 64 hexadecimal digits
	Size int64  // bytes; -1: until it ends
	Body io.Reader
	Back bool // it may be older than the one that runs
}

// Take takes a program in beside the present one, version by name, which goes on.
// Nothing stays of one that is refused. Invalid: it is not what was announced, or
// cannot run here; Conflict: it is older; Busy: another one is being taken in.
func (p *Place) Take(ctx context.Context, version string, o Offer) (b upgrade.Build, err error) {
	if err := CheckSum(o.Sum); err != nil {
		return b, err
	}
	if o.Size > MaxSize {
		return b, tooLarge()
	}
	if !p.taking.TryLock() {
		return b, holdfast.Errorf(holdfast.Busy, "another program is being taken in by this host; ask again when it is there")
	}
	defer p.taking.Unlock()
	p.clear()
	f, err := os.CreateTemp(filepath.Dir(p.path), filepath.Base(p.path)+".upload-*")
	if err != nil {
		return b, cannotWrite(err)
	}
	defer os.Remove(f.Name()) // unless it was renamed
	defer f.Close()
	if err := receive(f, o); err != nil {
		return b, err
	}
	arch, err := archOf(f, f.Name())
	if err != nil {
		return b, err
	}
	if arch != runtime.GOARCH {
		return b, holdfast.Errorf(holdfast.Invalid, "the program is for %s, and this host needs one for %s", arch, runtime.GOARCH)
	}
	if err := errors.Join(f.Chmod(0o755), f.Sync()); err != nil {
		return b, cannotWrite(err)
	}
	if err := f.Close(); err != nil { // what is open for writing cannot be run
		return b, cannotWrite(err)
	}
	b = upgrade.Build{Sum: o.Sum, Arch: arch}
	if b.Version, err = ask(ctx, f.Name()); err != nil {
		return upgrade.Build{}, err
	}
	if !o.Back {
		if err := upgrade.Older(upgrade.Build{Version: version}, b); err != nil {
			return upgrade.Build{}, err
		}
	}
	if err := errors.Join(os.Rename(f.Name(), p.path+next), syncDir(p.path)); err != nil {
		return upgrade.Build{}, cannotWrite(err)
	}
	return b, nil
}

// receive writes a body to a file, if it is what was announced.
func receive(f *os.File, o Offer) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(o.Body, MaxSize+1))
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return holdfast.Errorf(holdfast.NoSpace, "no room for the program in %s: %w", filepath.Dir(f.Name()), err)
	case err != nil && holdfast.KindOf(err) == holdfast.Invalid:
		return err
	case err != nil:
		return holdfast.Errorf(holdfast.Invalid, "the program was cut short while it was sent, after %d bytes: %w; send it again", n, err)
	case n > MaxSize:
		return tooLarge()
	case o.Size >= 0 && n != o.Size:
		return holdfast.Errorf(holdfast.Invalid, "the program was cut short while it was sent: %d bytes of %d came; send it again", n, o.Size)
	case n == 0:
		return holdfast.Errorf(holdfast.Invalid, "there is no program in the request: send it as the body")
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != o.Sum {
		return holdfast.Errorf(holdfast.Invalid, "the program that came has the SHA-256 %s, not %s: it was damaged on its way, or is another file; send it again", got, o.Sum)
	}
	return nil
}

// CheckSum refuses what is no SHA-256 in hexadecimal digits.
func CheckSum(sum string) error {
	if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size || strings.ToLower(sum) != sum {
		return holdfast.Errorf(holdfast.Invalid, "%q is no SHA-256: 64 hexadecimal digits in small letters are expected, as sha256sum prints them", sum[:min(len(sum), 80)])
	}
	return nil
}

func tooLarge() error {
	return holdfast.Errorf(holdfast.Invalid, "the program has more than %d MiB: that is no Holdfast", MaxSize>>20)
}

func cannotWrite(err error) error {
	kind := holdfast.IO
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		kind = holdfast.NoSpace
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		kind = holdfast.Denied
	}
	return holdfast.Errorf(kind, "the program cannot be put beside the one that runs: %w; install it there by other means, a package say, and run 'holdfast upgrade --from-disk'", err)
}

// clear removes what a process that died while it took a program in has left.
func (p *Place) clear() {
	left, _ := filepath.Glob(escape(p.path) + ".upload-*")
	for _, name := range left {
		os.Remove(name)
	}
}

// escape has a path stand for itself in a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
