package sim

import (
	"fmt"
	"io"
	"os"

	"github.com/holdfast-cloud/holdfast"
)

// playAgain plays the seeds that broke a promise in the summaries of a directory,
// and notes in them which do not in this binary, whose protocol is the same.
func playAgain(out io.Writer, version, protocol, dir string) error {
	all, err := Summaries(dir)
	if err != nil {
		return err
	}
	played, still := 0, 0
	for i := range all {
		s := &all[i]
		if s.Protocol != protocol {
			continue
		}
		for k := range s.Failed {
			f := &s.Failed[k]
			if f.Again != "" {
				continue
			}
			played++
			r := Run(Options{Seed: f.Seed, Steps: s.Steps})
			if len(r.Failures) > 0 {
				still++
				fmt.Fprintf(out, "seed %d: %s\n", f.Seed, r.Failures[0])
				continue
			}
			f.Again = version
			fmt.Fprintf(out, "seed %d passes; a check had said: %s\n", f.Seed, f.Why)
		}
		if _, err := s.Save(dir); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d seeds of protocol %s had broken a promise and were played again, %d still do\n", played, protocol, still)
	if still > 0 {
		return holdfast.Errorf(holdfast.Other, "sim campaign: %d of %d seeds still break a promise", still, played)
	}
	return nil
}

// renewProof writes the figures of a directory into the page, if it is there.
func renewProof(page, dir string) error {
	if _, err := os.Stat(page); err != nil {
		return nil
	}
	return WriteProof(page, dir)
}
