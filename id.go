package holdfast

import (
	"encoding/hex"
	"fmt"
	"io"
)

// UUID is a random 128-bit identity (RFC 9562 version 4). The zero UUID names
// nothing.
type UUID [16]byte

// NewUUID reads a version 4 UUID from r, crypto/rand.Reader in production and
// a seeded stream in simulation.
func NewUUID(r io.Reader) (UUID, error) {
	var u UUID
	if _, err := io.ReadFull(r, u[:]); err != nil {
		return UUID{}, fmt.Errorf("new uuid: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}

// ParseUUID reads the 36-character form with hyphens.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return UUID{}, Errorf(Invalid, "%q is not an identifier of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", s)
	}
	h := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(u[:], []byte(h)); err != nil {
		return UUID{}, Errorf(Invalid, "%q is not an identifier: %v", s, err)
	}
	return u, nil
}

// IsZero reports whether u names nothing.
func (u UUID) IsZero() bool { return u == UUID{} }

// String returns the 36-character form; Short its first eight characters.
func (u UUID) String() string {
	var b [36]byte
	hex.Encode(b[:8], u[:4])
	b[8] = '-'
	hex.Encode(b[9:13], u[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], u[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], u[8:10])
	b[23] = '-'
	hex.Encode(b[24:], u[10:])
	return string(b[:])
}

// Short returns the first eight hexadecimal digits, for logs and pictures.
func (u UUID) Short() string { return hex.EncodeToString(u[:4]) }

// MarshalText implements encoding.TextMarshaler; the zero UUID is "".
func (u UUID) MarshalText() ([]byte, error) {
	if u.IsZero() {
		return nil, nil
	}
	return []byte(u.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*u = UUID{}
		return nil
	}
	v, err := ParseUUID(string(b))
	if err == nil {
		*u = v
	}
	return err
}

// Identities of the things that Holdfast names. Each is a UUID of its own
// type, so that one cannot be passed for another.
type (
	// ClusterID is the identity of one cluster, minted by `cluster init`.
	ClusterID struct{ UUID }
	// HostID is a computer running Holdfast. It is kept in the data directory
	// and survives a change of address.
	HostID struct{ UUID }
	// DiskID is one formatted disk; it stands in the disk's superblock.
	DiskID struct{ UUID }
	// PoolID is the disks of one policy; zero is the default pool.
	PoolID struct{ UUID }
	// VolumeID is a virtual disk.
	VolumeID struct{ UUID }
	// ExportID is a set of volumes made reachable as one iSCSI target.
	ExportID struct{ UUID }
	// ReplicaID is one disk's copy of a volume. A copy that is made anew gets
	// a new identity.
	ReplicaID struct{ UUID }
	// SnapshotID is a kept root of a volume.
	SnapshotID struct{ UUID }
	// GroupID is snapshots of several volumes that were made at one point.
	GroupID struct{ UUID }
	// VMID is a desired machine.
	VMID struct{ UUID }
	// BootID names one life of a process's memory: what was acknowledged in
	// memory under one boot id is not vouched for under another.
	BootID struct{ UUID }
	// SessionID is one initiator session on an export.
	SessionID struct{ UUID }
)
