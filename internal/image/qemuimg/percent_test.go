package qemuimg

import (
	"slices"
	"testing"
)

func TestHowFarAConversionIs(t *testing.T) {
	var seen []float64
	p := &percents{tell: func(f float64) { seen = append(seen, f) }}
	for _, piece := range []string{"    (0.00/100%)\r   ", " (12.", "50/100%)\r", "    (12.50/100%)\r    (9.00/100%)\r", "warning\n", "    (100.00/100%)\r\n"} {
		if n, err := p.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []float64{0.125, 1}; !slices.Equal(seen, want) {
		t.Errorf("told %v, want %v", seen, want)
	}
}

func FuzzPercents(f *testing.F) {
	f.Add([]byte("    (12.50/100%)\r    (NaN/100%)\r(1e999/100%)"))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := 0.0
		p := &percents{tell: func(f float64) {
			if !(f > last && f <= 1) {
				t.Errorf("%v after %v", f, last)
			}
			last = f
		}}
		p.Write(b)
		if len(p.line) > maxPercent {
			t.Errorf("%d bytes are kept", len(p.line))
		}
	})
}
