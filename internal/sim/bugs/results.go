package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

// result is what came of a bug.
type result struct {
	Bug     string `json:"bug"`
	Commit  string `json:"commit"`                  // that it was planted in
	World   string `json:"sources"`                 // hash of the protocol's and the simulator's sources
	Tried   uint64 `json:"seeds_tried"`             // from 1 on
	Seed    uint64 `json:"found_by_seed,omitempty"` // 0: none of them found it
	Finding string `json:"finding,omitempty"`       // the first of that seed
	Judge   bool   `json:"by_porcupine,omitempty"`  // one of that seed's findings is the judge's of histories
}

// String is what a person wants to know.
func (r *result) String() string {
	if r.Seed == 0 {
		return fmt.Sprintf("NOT FOUND in %d seeds", r.Tried)
	}
	return fmt.Sprintf("found by seed %d: %s", r.Seed, r.Finding)
}

// readResults reads what came of all bugs; a file that is not there has nothing.
func readResults(file string) (all []result, err error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

func resultOf(all []result, name string) result {
	if i := slices.IndexFunc(all, func(r result) bool { return r.Bug == name }); i >= 0 {
		return all[i]
	}
	return result{}
}

// keep puts a result among those of others, which may have been added meanwhile,
// and writes the page. Results of bugs that are not planted any more go.
func (h *hunt) keep(r *result) error {
	if h.file == "" {
		return nil
	}
	all, err := readResults(h.file)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(x result) bool {
		return r != nil && x.Bug == r.Bug || !slices.ContainsFunc(bugs(), func(b bug) bool { return b.name == x.Bug })
	})
	if r != nil {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b result) int { return cmp.Compare(order(a.Bug), order(b.Bug)) })
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(h.file), 0o777)
	}
	if err == nil {
		err = os.WriteFile(h.file, append(b, '\n'), 0o666)
	}
	if err != nil || h.page == "" {
		return err
	}
	text, err := os.ReadFile(h.page)
	if err != nil {
		return err
	}
	made, err := sim.Replace(string(text), "bugs", table(all))
	if err != nil {
		return fmt.Errorf("%s: %w", h.page, err)
	}
	return os.WriteFile(h.page, []byte(made), 0o666)
}

func order(name string) int {
	return slices.IndexFunc(bugs(), func(b bug) bool { return b.name == name })
}

// table is the part of the page that is not written by people.
func table(all []result) string {
	var t strings.Builder
	t.WriteString("| bug | breaks | where | found by seed |\n|---|---|---|---|\n")
	for _, b := range bugs() {
		var where []string
		for _, e := range b.edits {
			if f := strings.TrimPrefix(e.file, "internal/"); !slices.Contains(where, f) {
				where = append(where, f)
			}
		}
		found := "not looked for yet"
		switch r := resultOf(all, b.name); {
		case r.Seed != 0 && r.Judge:
			found = fmt.Sprintf("%d, by both judges", r.Seed)
		case r.Seed != 0:
			found = fmt.Sprint(r.Seed)
		case r.Tried > 0:
			found = fmt.Sprintf("**not in %d**", r.Tried)
		}
		if b.test != "" {
			found += fmt.Sprintf("; also `%s`", b.test)
		}
		fmt.Fprintf(&t, "| %s | %s | `%s` | %s |\n", strings.ReplaceAll(b.name, "-", " "), b.rule, strings.Join(where, "`, `"), found)
	}
	return t.String()
}
