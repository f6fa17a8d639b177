package baddays

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// TestRunbooks plays the commands of the runbooks in a lab, and looks that they
// print what the pages say. testdata/runbooks.txt brings the lab from one state
// into the next; in each, the blocks that name it are played. RUNBOOKS=all plays
// the scenes as well that take long.
func TestRunbooks(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	text, err := os.ReadFile("testdata/runbooks.txt")
	if err != nil {
		t.Fatal(err)
	}
	todo, all, left := scenes(string(text)), allBlocks(t), 0
	for _, b := range all {
		if b.notPlayed == "" && !slices.ContainsFunc(todo, func(s scenery) bool { return s.name == b.scene }) {
			t.Errorf("%s: there is no scene %q", b.at(), b.scene)
		}
	}
	s := newLab(t, 3, 1<<30) // bytes; one is read to its end
	s.importProbe()
	played := 0
	for _, sc := range todo {
		mine := slices.DeleteFunc(slices.Clone(all), func(b block) bool { return b.scene != sc.name })
		if sc.long && os.Getenv("RUNBOOKS") == "" {
			left += len(mine)
			continue
		}
		if !t.Run(sc.name, func(t *testing.T) {
			s := s.as(t)
			for _, step := range sc.steps {
				s.step(step)
			}
			for _, b := range mine {
				s.play(b)
				played++
			}
		}) {
			t.Fatal("the lab is in no state to go on")
		}
	}
	t.Logf("%d blocks of commands in %d pages: %d played, %d more by 'make runbooks', %d not in a lab", len(all), len(runbooks.Pages()), played, left, len(all)-played-left)
	why := map[string]int{}
	for _, b := range all {
		if b.notPlayed != "" {
			why[b.page+": "+b.notPlayed]++
		}
	}
	for _, w := range slices.Sorted(maps.Keys(why)) {
		t.Logf("%d blocks are not played of %s", why[w], w)
	}
}

// step does one thing to the lab.
func (s *scene) step(line string) {
	s.t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	path := func(i int) string { return filepath.Join(s.l.Dir, args[i]) }
	switch word {
	case "holdfast":
		s.until("holdfast "+rest, func() (bool, string) {
			out, code := s.typed(typed{words: strings.Fields(line)})
			return code == 0, out
		})
	case "until": // the status says that
		s.until(rest, func() (bool, string) {
			out, _ := s.typed(typed{words: []string{"holdfast", "status"}})
			return said(out, []string{rest}), out
		})
	case "move": // a file below the directory of the lab
		if err := os.Rename(path(0), path(1)); err != nil {
			s.t.Fatal(err)
		}
	case "file": // where commands run
		name, text, _ := strings.Cut(rest, " ")
		if err := os.WriteFile(filepath.Join(s.home(), name), []byte(text+"\n"), 0o600); err != nil {
			s.t.Fatal(err)
		}
	case "rot": // one block of a volume
		s.rotOne(args[0])
	default:
		s.t.Fatalf("%q is no step", line)
	}
}

// home is the home directory of whoever types, where the lab is the current one.
func (s *scene) home() string { return filepath.Dir(s.l.Dir) }

// play types the commands of a block. Those that only look are typed again until
// they print what the page says.
func (s *scene) play(b block) {
	s.t.Helper()
	looks := !slices.ContainsFunc(b.commands, func(c typed) bool { return !lookup(c.words) })
	try := func() (bool, string) {
		all := ""
		for _, c := range b.commands {
			if c.words[0] != "holdfast" {
				s.t.Fatalf("%s: a lab cannot run %q", b.at(), c.words[0])
			}
			out, code := s.typed(c)
			all += out
			if code != 0 && !slices.ContainsFunc(b.want, func(w string) bool { return strings.HasPrefix(w, "Error: ") }) {
				return false, strings.Join(c.words, " ") + ": " + out
			}
		}
		return said(all, b.want), all
	}
	if looks {
		s.until(b.at()+" to print what it says", try)
	} else if ok, out := try(); !ok {
		s.t.Fatalf("%s: it says\n%s\nand what came is\n%s", b.at(), strings.Join(b.want, "\n"), out)
	}
}

// typed runs a command line of a page. The pages call the disk of every host
// /dev/sdb; steps call the directory of the lab LAB.
func (s *scene) typed(c typed) (string, int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	args := slices.Clone(c.words[1:])
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "LAB", s.l.Dir)
		for _, h := range s.l.Hosts {
			if a == h.Name+":/dev/sdb" {
				args[i] = h.Name + ":" + h.Disk()
			}
		}
	}
	cmd := exec.CommandContext(ctx, program(s.t), args...)
	cmd.Dir = s.home()
	cmd.Env = append(os.Environ(), "HOME="+s.home(), "XDG_STATE_HOME="+s.home(), "HOLDFAST_SOCKET=", "HOLDFAST_HOST=")
	cmd.Stdin = strings.NewReader(c.input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	text := string(out)
	for _, h := range s.l.Hosts {
		text = strings.ReplaceAll(text, h.Disk(), "/dev/sdb")
	}
	return text, cmd.ProcessState.ExitCode()
}

// rotOne writes to a volume that has one copy, and changes a bit of it where it
// lies, and reads it.
func (s *scene) rotOne(volume string) {
	s.t.Helper()
	v, err := s.volume(volume)
	if err != nil {
		s.t.Fatal(err)
	}
	h := s.host(v.Replicas[0].Host)
	disk := s.attach(h, volume)
	defer disk.Close()
	want := pattern(11, 1)
	if _, err := disk.WriteAt(want, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := disk.Flush(); err != nil {
		s.t.Fatal(err)
	}
	block := want[:4096]
	if flip(s, h.Disk(), block) == 0 {
		s.t.Fatal("the block was not found on the disk")
	}
	if _, err := disk.ReadAt(bytes.Clone(block), 0); err == nil {
		s.t.Error("the bad block was returned as data")
	}
}
