package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// plant builds this program with a bug in it, in the root of the source.
func plant(dir string, b *bug) (program string, err error) {
	list, err := overlay(dir, b)
	if err != nil {
		return "", err
	}
	program = filepath.Join(dir, b.name)
	if out, err := exec.Command("go", "build", "-overlay", list, "-o", program, "./internal/sim/bugs").CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %s", out)
	}
	return program, nil
}

// overlay writes the files that a bug changes, and the list of them that the go
// command reads.
func overlay(dir string, b *bug) (list string, err error) {
	texts := make(map[string]string)
	for _, e := range b.edits {
		if _, ok := texts[e.file]; !ok {
			t, err := os.ReadFile(e.file)
			if err != nil {
				return "", fmt.Errorf("run it in the root of the source: %w", err)
			}
			texts[e.file] = string(t)
		}
		if n := strings.Count(texts[e.file], e.old); n != 1 {
			return "", fmt.Errorf("%s has %d times, instead of once: %q", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(texts[e.file], e.old, e.new, 1)
	}
	files := struct{ Replace map[string]string }{make(map[string]string)}
	for file, text := range texts {
		real, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		planted := filepath.Join(dir, b.name+"-"+filepath.Base(file))
		if err := os.WriteFile(planted, []byte(text), 0o600); err != nil {
			return "", err
		}
		files.Replace[real] = planted
	}
	o, err := json.Marshal(files)
	if err != nil {
		return "", err
	}
	list = filepath.Join(dir, b.name+".json")
	return list, os.WriteFile(list, o, 0o600)
}

// A seed takes a second or two of a processor's time; one that takes more spins.
// On a machine that has much else to do it may last.
const (
	patience = 30 // seconds of processors' time
	atLast   = 30 * time.Minute
)

// look plays seeds after those that were tried, several at a time, until one
// finds something or all were tried. The first seed in order that did is kept.
func look(program string, r *result, seeds uint64, jobs int) {
	for r.Tried < seeds && r.Seed == 0 {
		n := min(uint64(jobs), seeds-r.Tried)
		found := make(chan result, n)
		for i := range n {
			go func() { found <- try(program, r.Tried+1+i) }()
		}
		var best result
		for range n {
			if f := <-found; f.Seed != 0 && (best.Seed == 0 || f.Seed < best.Seed) {
				best = f
			}
		}
		if r.Tried += n; best.Seed != 0 {
			r.Seed, r.Tried, r.Finding, r.Judge = best.Seed, best.Seed, best.Finding, best.Judge
		}
	}
}

// try plays one seed in a process of its own, since a bug may panic or spin.
func try(program string, seed uint64) result {
	var out bytes.Buffer
	c := exec.Command(program, "-play", strconv.FormatUint(seed, 10))
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return result{Seed: seed, Finding: "it cannot be started: " + err.Error()}
	}
	hangs := time.AfterFunc(atLast, func() { c.Process.Kill() })
	err := c.Wait()
	if !hangs.Stop() || c.ProcessState.UserTime() > (patience-5)*time.Second {
		return result{Seed: seed, Finding: "it does not end"}
	}
	if err == nil {
		return result{}
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return result{Seed: seed, Finding: line, Judge: strings.Contains(out.String(), "by Porcupine")}
}
