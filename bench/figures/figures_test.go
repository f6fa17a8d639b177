package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/drill"
)

func TestTheImageIsMostlyNothingAndAsLargeAsItSays(t *testing.T) {
	const size = 8 << 20
	read := func(piece int) []byte {
		s := &sparse{size: size, r: rand.NewChaCha8([32]byte{1})}
		var all []byte
		for buf := make([]byte, piece); ; {
			n, err := s.Read(buf)
			all = append(all, buf[:n]...)
			if err == io.EOF {
				return all
			}
		}
	}
	b := read(1 << 20)
	if len(b) != size || !bytes.HasPrefix(b, []byte(idleCode)) || b[510] != 0x55 || b[511] != 0xaa {
		t.Fatalf("%d bytes, beginning with % x", len(b), b[:8])
	}
	data := 0
	for at := 0; at < size; at += holdfast.BlockSize {
		if !bytes.Equal(b[at:at+holdfast.BlockSize], make([]byte, holdfast.BlockSize)) {
			data++
		}
	}
	if data != size/dataEvery {
		t.Errorf("%d blocks of data, want %d", data, size/dataEvery)
	}
}

func TestTheReportIsATable(t *testing.T) {
	r := newReport()
	r.add("lab up", "s", "≤ 10", []float64{2, 3.25, 9})
	r.add("nothing", "s", "", nil)
	r.series("probe", drill.Series{Leaders: 1, Rounds: make([]drill.Report, 3), Figures: []drill.Figure{{What: "x", Unit: "s", Rounds: 3, Median: 7.5, Worst: 120.4}}}, map[string]string{"x": "≤ 10"})
	var b bytes.Buffer
	if err := r.print(&b, "text"); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(b.String(), "\n\n")
	const want = `FIGURE                                     MEDIAN  WORST  OF  GOAL
lab up                                     3.25 s  9 s    3   ≤ 10
probe: x                                   7.50 s  120 s  3   ≤ 10
probe: drills that killed the leader's rack  1       1      3   ≥ 30 %
`
	if strings.Join(strings.Fields(table), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got:\n%s", table)
	}
	if err := r.print(&b, "json"); err != nil || !strings.Contains(b.String(), `"kv_leader_rounds": 1`) && r.RackLoss != nil {
		t.Error(err)
	}
}

func TestUnknownPartsAreRefused(t *testing.T) {
	s := settings{only: []string{"lab", "weather"}, format: "text", ups: 1, times: 1, debians: 1, imageGiB: 1, idle: 1, away: 1}
	if err := s.check(); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "weather") {
		t.Error(err)
	}
	s.only = parts()
	if err := s.check(); err != nil {
		t.Error(err)
	}
}
