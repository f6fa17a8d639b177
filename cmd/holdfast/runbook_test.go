package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
	"github.com/holdfast-cloud/holdfast/internal/cli"
)

// ofOthers are the programs of the computer itself that runbooks may name.
func ofOthers() []string {
	return []string{"systemctl", "journalctl", "dmesg", "lsblk", "smartctl", "dd", "ls", "chmod", "swapoff", "sed", "ss", "ip", "date", "timedatectl", "chronyc", "df", "etcdctl"}
}

// TestRunbooksTypeWhatThereIs: every command of a runbook exists, with its
// flags, whether a lab can play it or not (lab/baddays plays what it can).
func TestRunbooksTypeWhatThereIs(t *testing.T) {
	env := cli.Env{Getenv: func(string) string { return "" }, Extra: extra()}
	n := 0
	for _, p := range runbooks.Pages() {
		for _, line := range typedLines(p.Text) {
			words := strings.Fields(line)
			if words[0] != "holdfast" {
				if !slices.Contains(ofOthers(), words[0]) {
					t.Errorf("%s: %q is a program that a host may not have", p.Name, line)
				}
				continue
			}
			n++
			if why := understood(env, words[1:]); why != "" {
				t.Errorf("%s: %q: %s", p.Name, line, why)
			}
		}
	}
	if n < 80 {
		t.Errorf("%d commands: they are written in another way than this looks for", n)
	}
	for _, wrong := range []string{"volume verify db1 --nonsense", "volume nonsense db1", "nonsense", "volume"} {
		if understood(env, strings.Fields(wrong)) == "" {
			t.Errorf("%q passes for a command", wrong)
		}
	}
}

// typedLines are the command lines of a page.
func typedLines(text string) (out []string) {
	in := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			in = line == "```sh"
		case in && line != "" && !strings.HasPrefix(line, "> "):
			out = append(out, line)
		}
	}
	return out
}

// understood says why a command line would not be, as far as --help tells: it
// reads flags, and shows what it would have done.
func understood(env cli.Env, args []string) (why string) {
	var out bytes.Buffer
	env.Stdout, env.Stderr, env.Stdin = &out, &out, strings.NewReader("")
	if status := cli.Run(env, append(slices.Clone(args), "--help")); status != 0 {
		return out.String()
	}
	_, usage, _ := strings.Cut(out.String(), "Usage:\n  holdfast ")
	usage, _, _ = strings.Cut(usage, "\n")
	var path []string
	for _, w := range strings.Fields(usage) {
		if strings.ToLower(w) != w || strings.ContainsAny(w[:1], "[<-") {
			break
		}
		path = append(path, w)
	}
	verbs := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !slices.Contains(path, a) })
	needs := 2
	if len(path) > 0 && slices.Contains([]string{"status", "list", "console", "runbook", "serve", "upgrade"}, path[0]) {
		needs = 1
	}
	if len(path) < needs || len(verbs) < len(path) {
		return "this is no command: holdfast " + usage
	}
	return ""
}
