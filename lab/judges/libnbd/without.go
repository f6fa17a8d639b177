//go:build !libnbd

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "libnbd: this was built without the library; 'make judges' builds it with")
	os.Exit(2)
}
