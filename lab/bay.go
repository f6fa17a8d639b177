package lab

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// A host with a bay has its disk on a file system of its own, which can be full, or
// fail, while everything else of the host goes on.

const (
	baySize  = 1200 << 20 // of the image, which is sparse
	bayDisk  = 1 << 30    // of the largest disk that it takes
	leastHog = 4 << 10    // of a file that takes room away
)

// CanBays says why hosts of a lab here can have no bays, nil if they can.
func CanBays() error { return canMount("disks that can fail by themselves") }

func (h Host) bay() filesystem {
	return filesystem{h.Name, filepath.Join(h.Dir, "bay.img"), filepath.Join(h.Dir, "bay"), baySize}
}

// hog is a file that leaves no room for anything else in the bay.
func (h Host) hog() string { return filepath.Join(h.bay().at, "hog") }

func (h Host) hasBay() error {
	if h.Bay {
		return nil
	}
	return holdfast.Errorf(holdfast.Conflict, "the disk of host %s lies where all others do, and cannot fail by itself", h.Name)
}

// FillBay has the file system under the host's disk be full, until FreeBay.
func (h Host) FillBay() error {
	if err := h.hasBay(); err != nil {
		return err
	}
	f, err := os.OpenFile(h.hog(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer f.Close()
	at := int64(0)
	for piece := int64(256 << 20); piece >= leastHog; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, piece); err {
		case nil:
			at += piece
		case unix.ENOSPC:
			piece /= 2
		default:
			return holdfast.Errorf(holdfast.IO, "fill the file system under the disk of host %s: %w", h.Name, err)
		}
	}
	return nil
}

// FreeBay gives the room back.
func (h Host) FreeBay() error {
	if err := h.hasBay(); err != nil {
		return err
	}
	if err := os.Remove(h.hog()); err != nil && !os.IsNotExist(err) {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

// PullBay has everything fail that is asked of the host's disk, until PushBay. What
// was written to it is on it.
func (h Host) PullBay() error {
	if err := h.hasBay(); err != nil {
		return err
	}
	return h.bay().shutdown(fsFlush)
}

// PushBay has the disk be there again, for who opens it anew.
func (h Host) PushBay() error {
	if err := h.hasBay(); err != nil {
		return err
	}
	return h.bay().anew()
}

// bays are the hosts that have one.
func bays(hosts []Host) (out []Host) {
	for _, h := range hosts {
		if h.Bay {
			out = append(out, h)
		}
	}
	return out
}
