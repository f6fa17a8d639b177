//go:build libnbd

package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	seed := flag.Uint64("seed", 1, "of everything that is random")
	size := flag.Int64("size", 0, "of the volume, which is new, in `bytes`")
	lossy := flag.Bool("lossy", false, "all power may be lost whenever the connection is")
	stop := flag.String("stop", "", "end when this `file` exists")
	flag.Parse()
	c := newClient(flag.Args(), *size, *lossy, *seed)
	c.stop = func() bool {
		_, err := os.Stat(*stop)
		return err == nil
	}
	if err := c.work(); err != nil {
		fmt.Fprintf(os.Stderr, "%v (after %s; seed %d)\n", err, c.did, *seed)
		os.Exit(1)
	}
	fmt.Println(c.did)
}
