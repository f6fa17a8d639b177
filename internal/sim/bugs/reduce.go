package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

// reduceOne makes a seed smaller that finds something, and prints what came of it.
func reduceOne(seed uint64, tries int) int {
	red, err := sim.Reduce(seed, tries, io.Discard)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(red)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// reduced has the program with the bug in it reduce the seed that found the bug.
func reduced(program string, seed uint64, tries int) (*sim.Reduced, error) {
	var out, wrong bytes.Buffer
	c := exec.Command(program, "-play", strconv.FormatUint(seed, 10), "-reduce", strconv.Itoa(tries))
	c.Stdout, c.Stderr = &out, &wrong
	if err := c.Run(); err != nil {
		line, _, _ := strings.Cut(wrong.String(), "\n")
		return nil, fmt.Errorf("%w: %s", err, line)
	}
	var red sim.Reduced
	return &red, json.Unmarshal(out.Bytes(), &red)
}

// smaller is the part of the page about runs that were reduced: all of them, and the
// shortest story.
func smaller(all []result) string {
	var t strings.Builder
	var least *result
	for i := range all {
		r := &all[i]
		if r.Reduced == nil {
			continue
		}
		if least == nil {
			t.WriteString("| bug | seed | what there was to it | what is left | runs |\n|---|---|---|---|---|\n")
		}
		if least == nil || len(r.Reduced.Story) < len(least.Reduced.Story) {
			least = r
		}
		fmt.Fprintf(&t, "| %s | %d | %s | %s | %d |\n", strings.ReplaceAll(r.Bug, "-", " "), r.Seed, r.Reduced.Before, r.Reduced.After, r.Reduced.Runs)
	}
	if least == nil {
		return "None was reduced yet.\n"
	}
	fmt.Fprintf(&t, "\nOf *%s* this is left, and ends with: %s\n\n```\n%s```\n", strings.ReplaceAll(least.Bug, "-", " "), least.Reduced.Finding, least.Reduced.Story)
	return t.String()
}
