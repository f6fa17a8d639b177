package lab

import "path/filepath"

// A volatile host keeps its data directory, the control plane's log in it, on a
// file system of its own, which goes with its power: what a process had written
// and not synced is gone then, names of files included, as if the kernel had died
// with it. The file system itself is told to forget (FS_IOC_SHUTDOWN, as xfstests
// do); its journal makes it sound when it is mounted again.

const volatileSize = 1 << 30 // of the image, which is sparse

// CanVolatile says why no lab here can have volatile hosts, nil if it can.
func CanVolatile() error { return canMount("hosts that forget what they have not synced") }

// image is the file that a volatile host's data lies in.
func (h Host) image() string { return filepath.Join(h.Dir, "data.img") }

// data is the file system of a volatile host.
func (h Host) data() filesystem { return filesystem{h.Name, h.image(), h.Data(), volatileSize} }

// forget has the file system of a volatile host forget what was not synced. Its
// processes stand still by then.
func (h Host) forget() error { return h.data().shutdown(fsNoLogFlush) }

// mount mounts what the host has of file systems of its own.
func (h Host) mount() error {
	if h.Volatile {
		if err := h.data().mount(); err != nil {
			return err
		}
	}
	if h.Bay {
		return h.bay().mount()
	}
	return nil
}

// volatiles are the hosts that forget.
func volatiles(hosts []Host) (out []Host) {
	for _, h := range hosts {
		if h.Volatile {
			out = append(out, h)
		}
	}
	return out
}
