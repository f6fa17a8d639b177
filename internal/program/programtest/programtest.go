// Package programtest lets a test's own binary play builds of Holdfast, which run and
// say their version, without building any.
package programtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
)

const (
	mark    = "\nthis build says: "
	maxSays = 128 << 10
	// Own is the version that a test's binary has as it is.
	Own = "v1.1.0"
)

// Main answers in place of the tests if the binary is run to hear its version. It is
// the first that TestMain calls.
//
// Run as `serve --check WORD` it is "good", it is "bad" and says so, or it does not
// know what "unknown" is.
func Main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		switch os.Args[3] {
		case "good":
			os.Exit(0)
		case "bad":
			fmt.Fprintln(os.Stderr, "Error: the key 'speed' is not known\nmore")
		default:
			fmt.Fprintln(os.Stderr, "Error: unknown flag: --check")
		}
		os.Exit(2)
	}
	if len(os.Args) != 2 || os.Args[1] != "--version" {
		return
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		os.Exit(3)
	}
	end := b[max(0, len(b)-maxSays):]
	i := bytes.LastIndex(end, []byte(mark))
	if i < 0 {
		fmt.Println("holdfast version " + Own)
		os.Exit(0)
	}
	said := string(end[i+len(mark):])
	if said == "" {
		os.Exit(4)
	}
	fmt.Print(said)
	os.Exit(0)
}

// Build is a program that says something when it is asked for its version; "": it
// fails.
func Build(t *testing.T, says string) []byte {
	t.Helper()
	return append(Itself(t), mark+says...)
}

// Itself is the program that runs the test, of version Own.
func Itself(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Version is a program of a version.
func Version(t *testing.T, version string) []byte {
	t.Helper()
	return Build(t, "holdfast version "+version+"\n")
}

// Sum is the SHA-256 of a program.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
