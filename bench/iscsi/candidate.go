package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
)

// span is how much of each volume is used, in bytes.
const span = 256 << 20

const blockSize = 512

// cell is one kind of load.
type cell struct {
	name   string
	write  bool
	random bool
	size   int // bytes of a command
	depth  int
	flush  bool // after every write
}

// cells are in the order in which they are measured: what is read was written
// in order.
func cells() []cell {
	return []cell{
		{"random read, 32", false, true, 4 << 10, 32, false},
		{"random read, 1", false, true, 4 << 10, 1, false},
		{"1 MiB read, 4", false, false, 1 << 20, 4, false},
		{"random write, 32", true, true, 4 << 10, 32, false},
		{"1 MiB write, 4", true, false, 1 << 20, 4, false},
		{"write+flush, 1", true, true, 4 << 10, 1, true},
	}
}

// candidate is a session with a target.
type candidate struct {
	name string
	s    *initiator.Session
	lun  [8]byte
	rng  *rand.Rand
	next int64
}

// open logs in to NAME=ADDR:PORT/TARGET/LUN.
func open(arg string) (*candidate, error) {
	name, url, _ := strings.Cut(arg, "=")
	parts := strings.Split(url, "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("give NAME=ADDR:PORT/TARGET/LUN")
	}
	lun, err := strconv.Atoi(parts[2])
	if err != nil || lun < 0 || lun > 255 {
		return nil, fmt.Errorf("unit number %q", parts[2])
	}
	nc, err := net.Dial("tcp", parts[0])
	if err != nil {
		return nil, err
	}
	s, err := initiator.Login(nc, initiator.Config{Name: "iqn.2026-11.org.example:bench", Target: parts[1], ISID: [6]byte{0x80, 1},
		Keys: []pdu.Pair{{Key: "InitialR2T", Value: "No"}, {Key: "ImmediateData", Value: "Yes"}, {Key: "MaxBurstLength", Value: "1048576"},
			{Key: "FirstBurstLength", Value: "65536"}, {Key: "MaxOutstandingR2T", Value: "8"}, {Key: "MaxRecvDataSegmentLength", Value: "262144"}}})
	if err != nil {
		return nil, err
	}
	c := &candidate{name: name, s: s, lun: [8]byte{1: byte(lun)}, rng: rand.New(rand.NewPCG(1, 2))}
	for range 10 { // unit attentions of a new login
		if r, err := s.Do(initiator.Command{LUN: c.lun, CDB: make([]byte, 6)}); err != nil || r.Status == 0 {
			return c, err
		}
	}
	return c, fmt.Errorf("it does not become ready")
}

func (c *candidate) close() { c.s.Close() }

// fill writes noise everywhere, and reads it once.
func (c *candidate) fill() error {
	b := make([]byte, 1<<20)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], c.rng.Uint64())
	}
	for off := int64(0); off < span; off += int64(len(b)) {
		binary.LittleEndian.PutUint64(b, uint64(off))
		if err := c.do(c.command(true, off, b)); err != nil {
			return err
		}
	}
	for off := int64(0); off < span; off += int64(len(b)) {
		if err := c.do(c.command(false, off, b)); err != nil {
			return err
		}
	}
	return c.do(c.flush())
}

func (c *candidate) command(write bool, off int64, b []byte) initiator.Command {
	cdb := make([]byte, 10)
	binary.BigEndian.PutUint32(cdb[2:], uint32(off/blockSize))
	binary.BigEndian.PutUint16(cdb[7:], uint16(len(b)/blockSize))
	if write {
		cdb[0] = 0x2a
		return initiator.Command{LUN: c.lun, CDB: cdb, Out: b}
	}
	cdb[0] = 0x28
	return initiator.Command{LUN: c.lun, CDB: cdb, In: b}
}

func (c *candidate) flush() initiator.Command {
	return initiator.Command{LUN: c.lun, CDB: []byte{0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
}

func (c *candidate) do(cmd initiator.Command) error {
	return good(c.s.Do(cmd))
}

func good(r initiator.Reply, err error) error {
	if err == nil && r.Status != 0 {
		key, code := r.SenseKey()
		err = fmt.Errorf("status %#x, sense key %x, code %04x", r.Status, key, code)
	}
	return err
}

// turn loads the target for a while and returns commands (or pairs) a second.
func (c *candidate) turn(k cell, length time.Duration) (float64, error) {
	var mu sync.Mutex
	var failed error
	done := 0
	begin := time.Now()
	var all sync.WaitGroup
	for range k.depth {
		all.Go(func() {
			b := make([]byte, k.size)
			for time.Since(begin) < length {
				err := c.do(c.command(k.write, c.place(&mu, k), b))
				if err == nil && k.flush {
					err = c.do(c.flush())
				}
				mu.Lock()
				done++
				if err != nil {
					failed = err
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	all.Wait()
	return float64(done) / time.Since(begin).Seconds(), failed
}

// place chooses where the next command goes.
func (c *candidate) place(mu *sync.Mutex, k cell) int64 {
	mu.Lock()
	defer mu.Unlock()
	if k.random {
		return c.rng.Int64N(span/int64(k.size)) * int64(k.size)
	}
	at := c.next % (span / int64(k.size)) * int64(k.size)
	c.next++
	return at
}
