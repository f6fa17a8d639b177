package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// limits prints what a volume is limited to.
func limits(v v1.Volume) string {
	var parts []string
	if v.IOPS > 0 {
		parts = append(parts, fmt.Sprintf("%d IOPS", v.IOPS))
	}
	if v.MBps > 0 {
		parts = append(parts, fmt.Sprintf("%d MB/s", v.MBps))
	}
	if v.BurstMS > 0 {
		parts = append(parts, "burst "+(*burstFlag)(&v.BurstMS).String())
	}
	return strings.Join(parts, ", ")
}

// delayed says how many requests waited for the limits.
func delayed(v v1.Volume) string {
	if v.Delayed == 0 {
		return ""
	}
	return fmt.Sprintf("%d requests waited for its limits", v.Delayed)
}

// limitFlags are the flags of a volume's limits.
func limitFlags(c *cobra.Command, iops, mbps, burstMS *int) {
	c.Flags().Var((*limitFlag)(iops), "iops", "at most so many operations a second; 0 or none: any number")
	c.Flags().Var((*limitFlag)(mbps), "mbps", "at most so many megabytes (10^6 bytes) a second; 0 or none: any number")
	c.Flags().Var((*burstFlag)(burstMS), "burst", "how much is saved up while less is used, as time at these limits, for example 2s (default 100ms)")
}

// weightFlag is the flag of a volume's share.
func weightFlag(c *cobra.Command, weight *int) {
	c.Flags().Var((*limitFlag)(weight), "weight", "share of a disk that it gets while others want it too, 1 to 1000: 200 is twice as much as 100 (default 100)")
}

// limitFlag is a flag that takes a whole number, or none.
type limitFlag int

// String is empty for zero, so that help does not show it as a default.
func (f *limitFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.Itoa(int(*f))
}

func (f *limitFlag) Type() string { return "number" }

func (f *limitFlag) Set(s string) error {
	if s == "none" {
		*f = 0
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a limit; write a whole number like 500, or none", s)
	}
	*f = limitFlag(n)
	return nil
}

// burstFlag is a flag that takes a time, or none; it holds milliseconds.
type burstFlag int

// String is empty for zero, so that help does not show it as a default.
func (f *burstFlag) String() string {
	if *f == 0 {
		return ""
	}
	return (time.Duration(*f) * time.Millisecond).String()
}

func (f *burstFlag) Type() string { return "time" }

func (f *burstFlag) Set(s string) error {
	if s == "none" {
		*f = 0
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d%time.Millisecond != 0 {
		return fmt.Errorf("%q is not a burst; write it like 2s or 500ms, or none", s)
	}
	*f = burstFlag(d.Milliseconds())
	return nil
}
