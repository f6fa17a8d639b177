package volume

import (
	"encoding/binary"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// maxTaken bounds the sessions that go with a volume.
const maxTaken = 1024

// takeAsk asks a host to take a volume with its sessions from a writer that has
// given it up (KindSessionTake).
type takeAsk struct {
	volume     holdfast.VolumeID
	epoch      holdfast.Epoch // of the writer until now
	generation uint32         // of the cache that the sessions rely on
	sessions   []takenSession
}

// takenSession is a session that goes with its volume.
type takenSession struct {
	id       holdfast.SessionID
	from     holdfast.HostID // who carries it
	readOnly bool
}

const (
	takeHead   = 16 + 4 + 4
	takenBytes = 16 + 16 + 1
)

func (a *takeAsk) appendTo(b []byte) []byte {
	b = append(b, a.volume.UUID[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(a.epoch))
	b = binary.LittleEndian.AppendUint32(b, a.generation)
	for _, t := range a.sessions {
		b = append(append(b, t.id.UUID[:]...), t.from.UUID[:]...)
		if t.readOnly {
			b = append(b, openReadOnly)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// decodeTake reads a takeAsk. Errors: kind Invalid.
func decodeTake(b []byte) (*takeAsk, error) {
	if len(b) < takeHead || (len(b)-takeHead)%takenBytes != 0 || (len(b)-takeHead)/takenBytes > maxTaken {
		return nil, holdfast.Errorf(holdfast.Invalid, "session take: %d bytes", len(b))
	}
	a := &takeAsk{epoch: holdfast.Epoch(binary.LittleEndian.Uint32(b[16:])), generation: binary.LittleEndian.Uint32(b[20:])}
	copy(a.volume.UUID[:], b)
	for b = b[takeHead:]; len(b) > 0; b = b[takenBytes:] {
		var t takenSession
		copy(t.id.UUID[:], b)
		copy(t.from.UUID[:], b[16:])
		if b[32]&^openReadOnly != 0 {
			return nil, holdfast.Errorf(holdfast.Invalid, "session take: flags %#x", b[32])
		}
		t.readOnly = b[32] == openReadOnly
		a.sessions = append(a.sessions, t)
	}
	return a, nil
}

// after is what the volume's writer until now gave up.
func (a *takeAsk) after(from holdfast.HostID) *released { return &released{from: from, epoch: a.epoch} }

func (s *Service) serveSessionTake(from holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	ask, err := decodeTake(f.Head)
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	s.tasks.Go(func() { reply(transport.Frame{}, s.takeOnce(ask, from)) })
}

// takeOnce is take, also if it is asked for again. Kind Unavailable while the
// first time lasts.
func (s *Service) takeOnce(ask *takeAsk, from holdfast.HostID) error {
	h := &handing{}
	s.mu.Lock()
	has := len(ask.sessions) > 0
	for _, t := range ask.sessions {
		sv := s.remote[t.id]
		has = has && sv != nil && sv.leaves == nil
	}
	busy := s.handing[ask.volume] != nil
	if !has && !busy {
		s.handing[ask.volume] = h
	}
	s.mu.Unlock()
	switch {
	case has:
		return nil
	case busy:
		return holdfast.Errorf(holdfast.Unavailable, "volume %s is being handed over", ask.volume.Short())
	}
	err := s.take(ask, from)
	s.endHanding(ask.volume, h, s.Self, err)
	return err
}

// take makes this host the writer of a volume that from has given up, and begins
// its sessions, while handing keeps everybody else out. It blocks.
func (s *Service) take(ask *takeAsk, from holdfast.HostID) error {
	if s.MayOpen != nil {
		if err := s.MayOpen(ask.volume); err != nil {
			return err
		}
	}
	after := ask.after(from)
	v, err := s.openAfter(ask.volume, after)
	if err != nil {
		return err
	}
	if !after.taken {
		return holdfast.Errorf(holdfast.Fenced, "volume %s was opened here before it could be handed over", v.Record().Name)
	}
	if g := v.Record().Generation; g != ask.generation {
		return holdfast.Errorf(holdfast.LostCache, "the memory of volume %s was lost while it was handed over", v.Record().Name)
	}
	begun := make([]*session, 0, len(ask.sessions))
	for _, t := range ask.sessions {
		ss, err := v.beginSession(start{readOnly: t.readOnly, moves: true, came: true})
		if err != nil {
			for _, ss := range begun {
				ss.Close()
			}
			return err
		}
		begun = append(begun, ss)
	}
	for i, t := range ask.sessions {
		s.register(t.id, begun[i], t.from)
		s.mu.Lock()
		d := s.carries[t.id]
		s.mu.Unlock()
		if d != nil && t.from == s.Self && from != s.Self {
			d.follow(from, s.Self) // perhaps it cannot ask there any more
		}
	}
	return nil
}
