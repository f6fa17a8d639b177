package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/sim"
)

// result is what came of a bug.
type result = sim.PlantedBug

// told is what a person wants to know of a result.
func told(r *result) string {
	if r.Seed == 0 {
		return fmt.Sprintf("NOT FOUND in %d seeds", r.Tried)
	}
	return fmt.Sprintf("found by seed %d: %s", r.Seed, r.Finding)
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
	all, err := sim.PlantedBugs(h.file)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(x result) bool {
		return r != nil && x.Bug == r.Bug || !slices.ContainsFunc(bugs(), func(b bug) bool { return b.name == x.Bug })
	})
	if r != nil {
		all = append(all, *r)
	}
	for _, b := range bugs() {
		if resultOf(all, b.name).Bug == "" {
			all = append(all, result{Bug: b.name})
		}
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
	made, err := parts(string(text), all)
	if err != nil {
		return fmt.Errorf("%s: %w", h.page, err)
	}
	return os.WriteFile(h.page, []byte(made), 0o666)
}

// parts writes those parts of the page that are made of results.
func parts(page string, all []result) (string, error) {
	page, err := sim.Replace(page, "bugs", table(all))
	if err != nil {
		return "", err
	}
	return sim.Replace(page, "reduced", smaller(all))
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
