package program

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

// Find returns the build of that hash, which is in its place already, was taken in,
// or was kept. NotFound: it is none of them.
func (p *Place) Find(ctx context.Context, sum string) (upgrade.Build, error) {
	for _, at := range []string{p.path, p.path + next, p.path + previous} {
		if b, err := p.at(ctx, at); err == nil && b.Sum == sum {
			return b, nil
		}
	}
	return upgrade.Build{}, holdfast.Errorf(holdfast.NotFound, "this host has no program with the SHA-256 %s; send it first", sum)
}

// Try runs the build of that hash with some arguments, which are to do nothing but look
// whether all is well. Invalid, with what it says: it is not. A build that does not
// know what it is asked for is not asked.
func (p *Place) Try(ctx context.Context, sum string, args ...string) error {
	for _, at := range []string{p.path, p.path + next, p.path + previous} {
		if b, err := p.at(ctx, at); err != nil || b.Sum != sum {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		said, err := run(ctx, at, args...)
		if err == nil || strings.Contains(said, "unknown flag") {
			return nil
		}
		said, _, _ = strings.Cut(strings.TrimPrefix(said, "Error: "), "\n")
		return holdfast.Errorf(holdfast.Invalid, "the program would not start with this host's configuration: %s (%w)", said, err)
	}
	return holdfast.Errorf(holdfast.NotFound, "this host has no program with the SHA-256 %s; send it first", sum)
}

// Exchange puts the build of that hash in the place, and keeps the one that stood
// there unless it goes back to the one before. There is a whole program in the place
// at every moment.
func (p *Place) Exchange(ctx context.Context, sum string) error {
	if !p.taking.TryLock() {
		return holdfast.Errorf(holdfast.Busy, "another program is being taken in by this host; ask again when it is there")
	}
	defer p.taking.Unlock()
	if b, err := p.at(ctx, p.path); err == nil && b.Sum == sum {
		return nil
	}
	if b, err := p.at(ctx, p.path+next); err == nil && b.Sum == sum {
		return p.advance()
	}
	if b, err := p.at(ctx, p.path+previous); err == nil && b.Sum == sum {
		return p.goBack()
	}
	return holdfast.Errorf(holdfast.NotFound, "this host has no program with the SHA-256 %s; send it first", sum)
}

// advance puts what was taken in in the place.
func (p *Place) advance() error {
	keep := p.path + ".upload-kept" // removed by clear, if nothing comes of it
	os.Remove(keep)
	err := os.Link(p.path, keep)
	if err == nil {
		os.Remove(p.path + older)
		_ = os.Link(p.path+previous, p.path+older) // there may be none
		err = os.Rename(keep, p.path+previous)
	}
	if err == nil {
		err = os.Rename(p.path+next, p.path)
	}
	if err = errors.Join(err, syncDir(p.path)); err != nil {
		return cannotWrite(err)
	}
	return nil
}

// goBack puts what was kept in the place.
func (p *Place) goBack() error {
	if err := errors.Join(os.Rename(p.path+previous, p.path), syncDir(p.path)); err != nil {
		return cannotWrite(err)
	}
	return nil
}

// undo takes an advance back, with what was kept before it.
func (p *Place) undo() error {
	p.taking.Lock()
	defer p.taking.Unlock()
	err := p.goBack()
	if _, serr := os.Stat(p.path + older); err == nil && serr == nil {
		err = errors.Join(os.Rename(p.path+older, p.path+previous), syncDir(p.path))
	}
	return err
}

// settle forgets what undo needs.
func (p *Place) settle() { os.Remove(p.path + older) }

// Become has this process run what stands in the place, with the arguments and the
// environment that it was started with. Its identity and its children stay: a service
// manager sees no end. It returns only with an error.
func (p *Place) Become() error {
	return holdfast.Errorf(holdfast.IO, "run %s: %w", p.path, syscall.Exec(p.path, os.Args, os.Environ()))
}
