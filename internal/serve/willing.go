package serve

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/transport"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// errWriter is where what is done on records alone ends: all that they say was
// found in order, and the rest is the work of a volume's writer.
var errWriter = errors.New("the rest is done by the writer of the volume, which was not asked")

// claims are records as volumes see them that nobody opens. An opening gets as far as
// the commit that would make this host the writer.
type claims struct{ c *cluster.Client }

// ReadVolume implements volume.Records.
func (r claims) ReadVolume(id holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	v, err := r.c.ReadVolume(id)
	if err == nil && r.Alive(v.Val.Writer) {
		err = errWriter // it has the volume open: nobody else has to
	}
	return v.Val, v.Mod, err
}

// CommitVolume implements volume.Records.
func (claims) CommitVolume(cluster.Volume, kv.Rev) (kv.Rev, error) { return 0, errWriter }

// ClaimVolume implements volume.Records.
func (r claims) ClaimVolume(v cluster.Volume, _ kv.Rev) (kv.Rev, error) {
	if err := answers(r.c.State(), v); err != nil {
		return 0, err
	}
	return 0, errWriter
}

// Alive implements volume.Records.
func (r claims) Alive(h holdfast.HostID) bool { return r.c.State().AliveHost(h) }

// Uses implements volume.Records.
func (r claims) Uses(c cluster.Replica) bool { return r.Alive(c.Host) }

// answers says that no host which could open a volume is there.
func answers(st *cluster.State, v cluster.Volume) error {
	for _, ref := range v.InSync {
		if st.AliveHost(ref.Host) {
			return nil
		}
	}
	return holdfast.Errorf(holdfast.Unavailable, "volume %s: none of its %d in-sync replicas can be reached", v.Name, len(v.InSync))
}

// keysOf are the data keys of a volume, or why it is locked.
func keysOf(ring *keyring.Ring, rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) {
	if !rec.Encrypted() {
		return nil, nil
	}
	keys, err := ring.Unwrap(rec.Keys)
	if holdfast.IsKind(err, holdfast.Unavailable) {
		err = holdfast.Errorf(holdfast.Unavailable, "volume %s is locked: the cluster key is not loaded; run 'holdfast cluster key unlock'", rec.Name)
	}
	return keys, err
}

// willing are hosts that make and remove replicas and keep volumes as they are, and
// do nothing else.
type willing struct{ c *cluster.Client }

// Send implements transport.Network.
func (w willing) Send(_ holdfast.HostID, f transport.Frame, _ time.Duration, done func(transport.Frame, error)) {
	switch f.Kind {
	case volume.KindCreate, volume.KindRemove:
		done(transport.Frame{}, nil)
	case volume.KindGroup:
		done(w.keep(f.Head))
	default:
		done(transport.Frame{}, holdfast.Errorf(holdfast.Unavailable, "this cannot be tried without being done"))
	}
}

// keep answers a step of a group snapshot as the volume's writer does that has
// nothing against it (docs/protocol/group.md).
func (w willing) keep(ask []byte) (out transport.Frame, err error) {
	var id holdfast.VolumeID
	if len(ask) < 1+len(id.UUID) {
		return out, holdfast.Errorf(holdfast.Invalid, "group snapshot: %d bytes that are no known step", len(ask))
	}
	copy(id.UUID[:], ask[1:])
	rec, err := w.c.ReadVolume(id)
	if err == nil {
		err = answers(w.c.State(), rec.Val)
	}
	if n := len(rec.Val.Snapshots); err == nil && n >= cluster.MaxSnapshots {
		err = holdfast.Errorf(holdfast.NoSpace, "volume %s has %d snapshots, no more can be kept; delete some", rec.Val.Name, n)
	}
	at := holdfast.MakeLSN(rec.Val.Epoch, 1)
	for _, s := range rec.Val.Snapshots {
		at = max(at, s.LSN+1)
	}
	out.Head = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, uint32(rec.Val.Epoch)), uint64(at))
	return out, err
}

// Handle implements transport.Network.
func (willing) Handle(transport.Kind, transport.Handler) {}

// Start implements transport.Network.
func (willing) Start() error { return nil }

// Close implements transport.Network.
func (willing) Close() error { return nil }
