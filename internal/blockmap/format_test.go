package blockmap

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// The page in docs/format is what people recover data by: it must say what the
// code does.
func TestFormatPageAgreesWithTheCode(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/blockmap.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, says := range []string{
		fmt.Sprintf("Format version **%d**", FormatVersion),
		fmt.Sprintf("(%#x)", pageMagic),
		fmt.Sprintf("| %d | %d | bitmap", bitmapAt, Fan/8),
		fmt.Sprintf("| %d | | the items", pageHeader),
		fmt.Sprintf("has %d bytes (`MaxPageSize`), a full leaf of one origin %d", MaxPageSize, pageHeader+Fan*entrySizeShort),
		fmt.Sprintf("leaf: %d bytes, or %d with flag %d", entrySize, entrySizeShort, flagOneOrigin),
		fmt.Sprintf("inner page: %d bytes", slotSize),
		fmt.Sprintf("Root: %d bytes", RootSize),
		fmt.Sprintf("at most %d", maxLevel),
	} {
		if !strings.Contains(page, says) {
			t.Errorf("docs/format/blockmap.md does not say %q", says)
		}
	}
}

// fixture is the map that testdata/map-VERSION.hex holds.
func fixture(t *testing.T, p *Pages) *Tree {
	tree := newTree(t, p, 600_000)
	for i := range uint64(20) {
		put(t, tree, i*i*1500, holdfast.MakeLSN(1, 10+i))
	}
	if _, err := tree.SetRange(512, 512*40, holdfast.MakeLSN(2, 5), 3, nil); err != nil {
		t.Fatal(err)
	}
	e := data(holdfast.MakeLSN(3, 0))
	e.Origin = 9
	if _, err := tree.Set(1, e); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestOldMapsCanBeRead opens maps that former builds wrote. A new format adds
// a file; none is ever rewritten.
func TestOldMapsCanBeRead(t *testing.T) {
	disk := newShelf()
	root := readFixture(t, "testdata/map-20261121.hex", disk)
	p := NewPages(disk)
	r, err := p.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	want := fixture(t, p).Snapshot()
	differ := 0
	if err := Diff(r, want, 0, func(a, n uint64, ea, eb Entry) bool {
		t.Errorf("blocks %d+%d: %+v, want %+v", a, n, ea, eb)
		differ++
		return differ < 5
	}); err != nil {
		t.Fatal(err)
	}
	if r.Blocks() != 600_000 || r.MaxLSN() != want.MaxLSN() {
		t.Errorf("%d blocks up to %v, want 600000 up to %v", r.Blocks(), r.MaxLSN(), want.MaxLSN())
	}
	// Today's build still writes the same bytes.
	again := newShelf()
	if b := flushAll(t, fixture(t, NewPages(nil)).Snapshot(), again); string(b) != string(root) {
		t.Errorf("root %x, was %x", b, root)
	}
	for id, b := range again.pages {
		if old := disk.pages[id]; string(b[:len(b)-7]) != string(old) {
			t.Errorf("page %d is encoded otherwise than in 20261121: that needs a new format version", id)
		}
	}
}

// readFixture reads lines of "id hex"; id 0 is the root.
func readFixture(t *testing.T, name string, disk *shelf) (root []byte) {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var id PageID
		var text string
		if _, err := fmt.Sscan(lines.Text(), &id, &text); err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if id == 0 {
			root = b
		} else {
			disk.pages[id] = b
		}
	}
	return root
}
