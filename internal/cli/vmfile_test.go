package cli

import (
	"reflect"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

const someVM = "format: 1\nname: db1\nvolume: db1\ncpus: 2\nmemory_mib: 512\npublish:\n  - port: 80\n    guest_port: 8080\ndisks:\n  - volume: archive\n"

func TestAVMFileIsReadAsItWasWritten(t *testing.T) {
	f, err := parseVMFile([]byte(someVM))
	want := v1.VMFile{Format: 1, VMSpec: v1.VMSpec{Name: "db1", Volume: "db1", CPUs: 2, MemoryMiB: 512, Publish: []v1.Publish{{Port: 80, GuestPort: 8080}}},
		Disks: []v1.VMDiskSpec{{Volume: "archive"}}}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Fatalf("%+v, %v", f, err)
	}
	b, err := yamlOf(f)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parseVMFile(b); err != nil || !reflect.DeepEqual(again, f) {
		t.Fatalf("%+v, %v, of\n%s", again, err, b)
	}
}

func TestAVMFileWithMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"format: 1\nname: a\nmemroy_mib: 5\n":                     `line 3: there is no field "memroy_mib": did you mean memory_mib?`,
		"format: 1\nname: a\ndisks:\n  - volume: x\n    vol: y\n": `line 5: there is no field "disks.vol"`,
		"format: 1\nname: a\ncpus: many\n":                        "cpus is a string where a whole number is wanted",
		"format: 1\nname: a\nname: b\n":                           "already defined",
		"name: a\n":                                               "format 0; this build reads format 1",
		"- a\n":                                                   "does not hold the definition of a VM",
		"":                                                        "does not hold the definition of a VM",
		"format: 1\nname: &n a\nvolume: *n\n":                     "line 3: volume refers to another part",
		"format: [":                                               "line 1",
	} {
		if _, err := parseVMFile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzVMFile(f *testing.F) {
	f.Add([]byte(someVM))
	f.Add([]byte(`{"format":1,"name":"a","disks":[{"size":4096}]}`))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parseVMFile(b)
		if err != nil {
			return
		}
		text, err := yamlOf(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseVMFile(text); err != nil {
			t.Errorf("what was read cannot be read again: %v\n%s", err, text)
		}
	})
}
