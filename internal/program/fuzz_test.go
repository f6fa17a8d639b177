package program

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// FuzzArch: whatever a file begins with, its processor is one that is known, or it is
// refused.
func FuzzArch(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00"))
	f.Add([]byte("\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x16"))
	f.Add([]byte("#!/bin/sh"))
	f.Fuzz(func(t *testing.T, b []byte) {
		name, err := arch(b)
		switch {
		case err != nil && (name != "" || !holdfast.IsKind(err, holdfast.Invalid)):
			t.Error(name, err)
		case err == nil && (len(b) < elfHead || name == ""):
			t.Errorf("%x is for %q", b, name)
		}
	})
}

// FuzzTrial: what a file says is a trial only if all of it makes sense.
func FuzzTrial(f *testing.F) {
	f.Add([]byte(`{"sum":"0000000000000000000000000000000000000000000000000000000000000000","version":"v1","starts":1}`))
	f.Add([]byte(`{"sum":"x","starts":-1,"failed":"it did not start"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, ok := readTrial(bytes.NewReader(b))
		if ok && (CheckSum(x.Sum) != nil || x.Starts < 0 || x.Starts > maxStarts) {
			t.Errorf("%q is %+v", b, x)
		}
	})
}
