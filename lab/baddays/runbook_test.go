package baddays

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// TestRunbooks plays the commands of the runbooks in labs, and looks that they
// print what the pages say. Each file of testdata/runbooks is a lab, and what
// brings it from one state into the next; in each, the blocks that name it are
// played. RUNBOOKS=all plays the labs as well that take long.
func TestRunbooks(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	all, stories := allBlocks(t), stories(t)
	for _, b := range all {
		if b.notPlayed == "" && !slices.ContainsFunc(stories, func(s story) bool { return s.has(b.scene) }) {
			t.Errorf("%s: there is no scene %q", b.at(), b.scene)
		}
	}
	done := tally{blocks: len(all)}
	t.Cleanup(func() { done.tell(t) })
	for _, b := range all {
		if b.notPlayed != "" {
			for _, c := range b.commands {
				done.left(b.page+": "+c.line, b.notPlayed)
			}
		}
	}
	for _, st := range stories {
		if st.long && os.Getenv("RUNBOOKS") == "" {
			done.later += st.count(all)
			continue
		}
		t.Run(st.name, func(t *testing.T) {
			t.Parallel()
			st.play(t, all, &done)
		})
	}
}

// play brings a lab up, and from one state into the next.
func (st story) play(t *testing.T, all []block, done *tally) {
	p := &player{scene: st.lab(t), done: done, means: &means{longer: t}}
	for _, sc := range st.scenes {
		if !t.Run(sc.name, func(t *testing.T) {
			p := p.in(t)
			for _, step := range sc.steps {
				p.step(step)
			}
			for _, b := range all {
				if b.scene == sc.name {
					p.play(b)
				}
			}
		}) {
			t.Fatal("the lab is in no state to go on")
		}
	}
}

// player types what is on pages, in a lab.
type player struct {
	*scene
	done *tally
	*means
}

// in is the player in a subtest.
func (p *player) in(t *testing.T) *player {
	return &player{scene: p.as(t), done: p.done, means: p.means}
}

// home is the home directory of whoever types, where the lab is the current one.
func (s *scene) home() string { return filepath.Dir(s.l.Dir) }

// play types the commands of a block. Those that only look are typed again until
// they print what the page says.
func (p *player) play(b block) {
	p.t.Helper()
	refused := slices.ContainsFunc(b.want, func(w string) bool { return strings.HasPrefix(w, "Error: ") })
	looks := !slices.ContainsFunc(b.commands, func(c typed) bool { return !lookup(c.words()) })
	try := func() (bool, string) {
		all, exit := "", 0
		for _, c := range b.commands {
			if why := cannot(c); why != "" {
				p.done.left(b.page+": "+c.line, why)
				continue
			}
			out, code := p.typed(c, b.on)
			all += out
			if code != 0 && code != b.exit && !refused {
				return false, c.line + ": " + out
			}
			exit = max(exit, code)
		}
		return (exit == b.exit || refused) && said(all, b.want), all
	}
	if looks {
		p.until(b.at()+" to print what it says", try)
	} else if ok, out := try(); !ok {
		p.t.Fatalf("%s: it says\n%s\nand what came is\n%s", b.at(), strings.Join(b.want, "\n"), out)
	}
	p.done.one(b)
}

// tally counts what of the pages was played.
type tally struct {
	mu            sync.Mutex
	blocks, later int
	played, part  int // blocks
	commands      int
	reasons       map[string]string
}

func (d *tally) one(b block) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range b.commands {
		if cannot(c) == "" {
			n++
		}
	}
	d.commands += n
	if n == len(b.commands) {
		d.played++
	} else if n > 0 {
		d.part++
	}
}

func (d *tally) left(what, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reasons == nil {
		d.reasons = map[string]string{}
	}
	d.reasons[what] = why
}

func (d *tally) tell(t *testing.T) {
	t.Logf("%d blocks in %d pages: %d played, %d more in part, %d more by 'make runbooks'; %d commands were run", d.blocks, len(runbooks.Pages()), d.played, d.part, d.later, d.commands)
	for _, w := range slices.Sorted(maps.Keys(d.reasons)) {
		t.Logf("not run: %s (%s)", w, d.reasons[w])
	}
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
