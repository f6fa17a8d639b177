package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

const smaps = `00400000-01660000 r-xp 00000000 08:01 42                         /usr/bin/holdfast
Size:              18816 kB
Rss:               17024 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
01660000-02a6d000 r--p 01260000 08:01 42                         /usr/bin/holdfast
Private_Dirty:         4 kB
Anonymous:             4 kB
956b3000000-956b4400000 rw-p 00000000 00:00 0
Private_Dirty:     10424 kB
7f9d3f200000-7f9d7f200000 r--s 00000000 08:01 77                 /data/etcd/member/snap/db
Private_Dirty:         0 kB
`

func TestMappingsAreRead(t *testing.T) {
	want := []mapping{
		{0x400000, 0x1660000, "r-xp", "/usr/bin/holdfast", 0},
		{0x1660000, 0x2a6d000, "r--p", "/usr/bin/holdfast", 8},
		{own: 10424},
		{0x7f9d3f200000, 0x7f9d7f200000, "r--s", "/data/etcd/member/snap/db", 0},
	}
	if got := readMappings(strings.NewReader(smaps)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPagesOfFilesAreCounted(t *testing.T) {
	for text, want := range map[string]int64{"344110 19251 12699 4705 0 24000 0\n": 12699, "": 0, "1 2": 0, "1 2 x": 0, "1 2 -3": 0} {
		if got := filePages(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// The program goes on without the pages that it let go of.
func TestTheProgramOutlivesItsPages(t *testing.T) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip("no /proc")
	}
	defer f.Close()
	ms := readMappings(f)
	program, _ := os.Executable()
	found := 0
	for _, m := range ms {
		if m.path == program {
			found++
		}
	}
	if found == 0 {
		t.Error("the program was not found among its mappings")
	}
	letGo(ms)
	if text := strings.Repeat("x", 3); text != "xxx" {
		t.Error("it does not go on")
	}
}

func FuzzMappings(f *testing.F) {
	f.Add(smaps)
	f.Add("1-2 r-xp 0 0 0 /x\nAnonymous: y kB\n-\n")
	f.Fuzz(func(t *testing.T, text string) {
		filePages(text)
		for _, m := range readMappings(strings.NewReader(text)) {
			if m.path != "" && m.from >= m.to {
				t.Fatalf("%+v", m)
			}
		}
	})
}
