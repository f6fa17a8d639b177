package replica

import (
	"encoding/binary"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// The frame kinds between hosts (docs/protocol/replica.md).
const (
	KindPromise    transport.Kind = 0x10 + iota // Ask → Report
	KindAppend                                  // Ask + records → Answer, when in memory
	KindSync                                    // Ask → Answer, when Upto is on disk
	KindBegin                                   // Ask + Start → Answer, when on disk
	KindTruncate                                // Ask: drop what is above Upto → Answer
	KindTail                                    // Ask: records after Upto → records
	KindRead                                    // Ask + Range → blocks, each with its identity
	KindBuildBegin                              // Ask + Build → Answer
	KindIngest                                  // Ask + blocks → Answer
	KindBuildEnd                                // Ask + Build → Answer
	KindBuildAbort                              // Ask → Answer
	KindPin                                     // Ask: keep the root, of Upto or later → Pinned
	KindPinRead                                 // Ask + PinPage → Page + blocks
	KindPinRelease                              // Ask + PinPage → nothing
	KindRoots                                   // Ask → roots that it has
	KindRootBegin                               // Ask + RootBuild → Answer
	KindRootEnd                                 // Ask + RootBuild → Answer, when on disk
	KindDiff                                    // Ask + DiffAsk → Diff
	KindFind                                    // Ask + blocks that lack their data → those of them that are here, with it
	KindDigest                                  // Ask + DigestAsk → Digests
	KindEntries                                 // Ask + PinPage → Page + Entries: what the map says, without data
	KindSeat                                    // Ask + SeatAsk → Seat
	KindInspect                                 // Ask → Report + roots, of whatever epoch
	KindReinstate                               // Ask: give up a build for good → Answer, when on disk
)

// Ask is the front of every request: which replica, under which authority.
type Ask struct {
	Replica holdfast.ReplicaID
	Epoch   holdfast.Epoch // the writer's; refused below the replica's promise
	Stable  holdfast.LSN   // as the writer knows it
	Upto    holdfast.LSN
}

const askSize = 16 + 8 + 8 + 8

// AppendTo appends the coding of a.
func (a *Ask) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, a.Replica.UUID[:]...)
	b = le.AppendUint64(b, uint64(a.Epoch))
	b = le.AppendUint64(b, uint64(a.Stable))
	return le.AppendUint64(b, uint64(a.Upto))
}

// DecodeAsk reads an Ask and returns what follows it.
func DecodeAsk(b []byte) (a Ask, rest []byte, err error) {
	if len(b) < askSize {
		return a, nil, short("request", len(b), askSize)
	}
	le := binary.LittleEndian
	copy(a.Replica.UUID[:], b)
	e := le.Uint64(b[16:])
	if e > uint64(holdfast.MaxEpoch) {
		return a, nil, holdfast.Errorf(holdfast.Invalid, "replica request: epoch %d is out of range", e)
	}
	a.Epoch, a.Stable, a.Upto = holdfast.Epoch(e), holdfast.LSN(le.Uint64(b[24:])), holdfast.LSN(le.Uint64(b[32:]))
	return a, b[askSize:], nil
}

func short(what string, have, need int) error {
	return holdfast.Errorf(holdfast.Invalid, "replica %s: %d bytes, need %d", what, have, need)
}

// Answer is what a replica says after an Append, Sync, Begin or build step.
// With it the replica grants the asker's epoch a lease of Lease.
type Answer struct {
	Boot    holdfast.BootID
	Prefix  holdfast.LSN
	Durable holdfast.LSN
	Full    bool // its disk has only the reserve left: slow down or stall
}

const answerSize = 16 + 8 + 8 + 8

// AppendTo appends the coding of a.
func (a *Answer) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, a.Boot.UUID[:]...)
	b = le.AppendUint64(b, uint64(a.Prefix))
	b = le.AppendUint64(b, uint64(a.Durable))
	var flags uint64
	if a.Full {
		flags = 1
	}
	return le.AppendUint64(b, flags)
}

// DecodeAnswer reads an Answer.
func DecodeAnswer(b []byte) (a Answer, err error) {
	if len(b) < answerSize {
		return a, short("answer", len(b), answerSize)
	}
	le := binary.LittleEndian
	copy(a.Boot.UUID[:], b)
	a.Prefix, a.Durable, a.Full = holdfast.LSN(le.Uint64(b[16:])), holdfast.LSN(le.Uint64(b[24:])), le.Uint64(b[32:])&1 != 0
	return a, nil
}

// DecodeRecords reads record headers until head ends and appends the records to
// out. It gives each Write its part of bulk as Data, which stays borrowed, and
// a part of hashes, which grows as it must.
func DecodeRecords(head, bulk []byte, out []record.Record, hashes *[]uint64) ([]record.Record, error) {
	for len(head) > 0 {
		r, rest, err := record.DecodeHeaderInto(head, hashes)
		if err != nil {
			return out, err
		}
		head = rest
		if r.Kind == record.Write {
			n := checksum.Length(r.Hashes)
			if len(bulk) < n {
				return out, short("records' data", len(bulk), n)
			}
			r.Data, bulk = bulk[:n:n], bulk[n:]
		}
		out = append(out, r)
	}
	if len(bulk) != 0 {
		return out, holdfast.Errorf(holdfast.Invalid, "replica records: %d bytes of data belong to no record", len(bulk))
	}
	return out, nil
}

// startSize is the coding of a record.Start.
const startSize = 24

// AppendStart appends the coding of an epoch start.
func AppendStart(b []byte, s record.Start) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(s.Epoch))
	b = le.AppendUint32(b, uint32(s.Prev))
	b = le.AppendUint64(b, uint64(s.Cut))
	b = le.AppendUint32(b, s.Generation)
	return le.AppendUint32(b, 0)
}

// DecodeStart reads an epoch start and returns what follows it.
func DecodeStart(b []byte) (s record.Start, rest []byte, err error) {
	if len(b) < startSize {
		return s, nil, short("epoch start", len(b), startSize)
	}
	le := binary.LittleEndian
	s = record.Start{Epoch: holdfast.Epoch(le.Uint32(b)), Prev: holdfast.Epoch(le.Uint32(b[4:])),
		Cut: holdfast.LSN(le.Uint64(b[8:])), Generation: le.Uint32(b[16:])}
	if s.Epoch > holdfast.MaxEpoch || s.Cut.Epoch() >= s.Epoch && s.Epoch != 0 {
		return s, nil, holdfast.Errorf(holdfast.Invalid, "epoch start %d cut at %v does not rise", s.Epoch, s.Cut)
	}
	return s, b[startSize:], nil
}

// AppendHistory and DecodeHistory code a list of starts.
func AppendHistory(b []byte, h []record.Start) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h)))
	for _, s := range h {
		b = AppendStart(b, s)
	}
	return b
}

// MaxHistory bounds a history on the wire.
const MaxHistory = 2000

// DecodeHistory reads what AppendHistory wrote.
func DecodeHistory(b []byte) (h []record.Start, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, short("history", len(b), 4)
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > MaxHistory {
		return nil, nil, holdfast.Errorf(holdfast.Invalid, "replica history: %d epochs, at most %d are allowed", n, MaxHistory)
	}
	for range n {
		var s record.Start
		if s, b, err = DecodeStart(b); err != nil {
			return nil, nil, err
		}
		h = append(h, s)
	}
	return h, b, nil
}

// AppendTo appends the coding of a report.
func (r *Report) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, r.Replica.UUID[:]...)
	b = append(b, r.Boot.UUID[:]...)
	for _, v := range []uint64{uint64(r.Promise), uint64(r.Prefix), uint64(r.Durable), uint64(r.Stable), r.Blocks, uint64(r.Lease)} {
		b = le.AppendUint64(b, v)
	}
	var flags uint64
	for i, f := range []bool{r.Kept, r.Building, r.Damaged} {
		if f {
			flags |= 1 << i
		}
	}
	b = le.AppendUint64(b, flags)
	return AppendHistory(b, r.History)
}

const reportSize = 16 + 16 + 7*8

// DecodeReport reads a report.
func DecodeReport(b []byte) (r Report, err error) {
	if len(b) < reportSize {
		return r, short("report", len(b), reportSize)
	}
	copy(r.Replica.UUID[:], b)
	copy(r.Boot.UUID[:], b[16:])
	var v [7]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[32+8*i:])
	}
	if v[0] > uint64(holdfast.MaxEpoch) || v[4] > holdfast.MaxVolumeBlocks {
		return r, holdfast.Errorf(holdfast.Invalid, "replica report: promise %d or size %d is out of range", v[0], v[4])
	}
	r.Promise, r.Prefix, r.Durable, r.Stable = holdfast.Epoch(v[0]), holdfast.LSN(v[1]), holdfast.LSN(v[2]), holdfast.LSN(v[3])
	r.Blocks, r.Lease = v[4], min(max(time.Duration(v[5]), 0), 2*Lease)
	r.Kept, r.Building, r.Damaged = v[6]&1 != 0, v[6]&2 != 0, v[6]&4 != 0
	r.History, _, err = DecodeHistory(b[reportSize:])
	return r, err
}

// Block is the identity of one block of a replica, as resync, rebuild and read
// repair carry it: its data follows in bulk unless it is a hole or lost.
type Block struct {
	Addr   uint64
	LSN    holdfast.LSN
	Origin holdfast.VolumeID
	Hash   uint64
	Hole   bool
	Lost   bool // it has data, which is not here
}

const blockSize = 8 + 8 + 16 + 8 + 8

// Bytes is how long the block's data is: what is stored of it.
func (k *Block) Bytes() int {
	if k.Hole {
		return 0
	}
	return checksum.Units(k.Hash) * holdfast.StoredUnit
}

// MaxBlocks is how many blocks one frame carries at most.
const MaxBlocks = 512

// AppendTo appends the coding of k.
func (k *Block) AppendTo(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, k.Addr)
	b = le.AppendUint64(b, uint64(k.LSN))
	b = append(b, k.Origin.UUID[:]...)
	b = le.AppendUint64(b, k.Hash)
	var flags uint64
	if k.Hole {
		flags = 1
	}
	if k.Lost {
		flags |= 2
	}
	return le.AppendUint64(b, flags)
}

// Bulky reports whether the block's data follows in bulk.
func (k *Block) Bulky() bool { return !k.Hole && !k.Lost }

func decodeBlock(b []byte) Block {
	le := binary.LittleEndian
	k := Block{Addr: le.Uint64(b), LSN: holdfast.LSN(le.Uint64(b[8:])), Hash: le.Uint64(b[32:]), Hole: le.Uint64(b[40:])&1 != 0, Lost: le.Uint64(b[40:])&2 != 0}
	copy(k.Origin.UUID[:], b[16:])
	return k
}

// DecodeBlocks reads block identities until b ends; bulk must hold the data of
// those that have any.
func DecodeBlocks(b []byte, bulk int) (out []Block, err error) {
	if len(b)%blockSize != 0 || len(b)/blockSize > MaxBlocks {
		return nil, holdfast.Errorf(holdfast.Invalid, "replica blocks: %d bytes are no list of 1 to %d blocks", len(b), MaxBlocks)
	}
	for ; len(b) > 0; b = b[blockSize:] {
		k := decodeBlock(b)
		if k.Addr >= holdfast.MaxVolumeBlocks {
			return nil, holdfast.Errorf(holdfast.Invalid, "replica blocks: address %d is beyond the largest volume", k.Addr)
		}
		if !k.Hole && !checksum.Proper(k.Hash) {
			return nil, holdfast.Errorf(holdfast.Invalid, "replica blocks: the hash of block %d is of no length that is stored", k.Addr)
		}
		if k.Bulky() {
			bulk -= k.Bytes()
		}
		out = append(out, k)
	}
	if bulk != 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "replica blocks: the data is %d bytes too long or short", bulk)
	}
	return out, nil
}
