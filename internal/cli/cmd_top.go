package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

const (
	topAsked = 16  // volumes that are asked for at a time
	topMost  = 256 // volumes that are looked at
	topSpan  = 16  // looks whose bytes a second are drawn
)

func (a *app) topCmd() *cobra.Command {
	var every time.Duration
	var count, rows int
	c := &cobra.Command{Use: "top", Short: "Who does most now: volumes by bytes a second, and what hosts carry", Args: args(),
		Long: `Show who does most now, anew every two seconds: the truth in one line, hosts
with their VMs and room, and the volumes that are used, those with most bytes a
second first. Ctrl-C ends it. Figures are counted by each volume's writer; the
first ones come after one interval. LATELY draws the bytes a second of the last
16 looks, the latest on the right, each volume by the most of its own.`,
		Example: "  holdfast top\n  holdfast top --every 10s --rows 40\n  holdfast top --count 1 > now.txt",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if every < 100*time.Millisecond || every > time.Hour || count < 0 || rows < 1 {
				return holdfast.Errorf(holdfast.Invalid, "--every is 100ms to 1h, --count 0 or more, --rows 1 or more")
			}
			_, screen := terminal(a.Stdout)
			return a.top(ctx, c, every, count, rows, screen)
		})}
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often")
	c.Flags().IntVar(&count, "count", 0, "so many times; 0: until it is ended")
	c.Flags().IntVar(&rows, "rows", 20, "most volumes that are shown")
	return c
}

func (a *app) top(ctx context.Context, c *client.Client, every time.Duration, count, rows int, screen bool) error {
	was, lately := map[string]used{}, history{}
	for n := 0; ; n++ {
		is, err := lookAtVolumes(ctx, c)
		if err != nil {
			return err
		}
		if n > 0 {
			var out bytes.Buffer
			if screen {
				out.WriteString("\x1b[H\x1b[2J")
			}
			if err := topPage(ctx, c, &out, lately.add(busiest(was, is)), rows); err != nil {
				return err
			}
			if _, err := a.Stdout.Write(out.Bytes()); err != nil {
				return holdfast.Errorf(holdfast.IO, "top: %w", err)
			}
		}
		if count > 0 && n == count {
			return nil
		}
		was = is
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil // it was ended: no mistake
		}
	}
}

// used is what a volume's writer has counted, at a moment of this computer's.
type used struct {
	volume v1.Volume
	at     time.Time
	v1.Activity
}

// lookAtVolumes asks the writers of all volumes that have one.
func lookAtVolumes(ctx context.Context, c *client.Client) (map[string]used, error) {
	all, err := c.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v v1.Volume) bool { return v.Writer == "" || v.Image })
	all = all[:min(len(all), topMost)]
	out := make(map[string]used, len(all))
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, topAsked)
	for _, v := range all {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			x, err := c.Activity(ctx, v.ID)
			if err != nil {
				return // nobody has it open, or its host is away: it does nothing
			}
			mu.Lock()
			out[v.ID] = used{v, time.Now(), x}
			mu.Unlock()
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

// busy is what a volume did between two looks, a second.
type busy struct {
	used
	read, written, flushes, delayed float64
	lately                          []float64 // bytes a second, of the looks so far
}

// history is what volumes did in the last looks, by identity.
type history map[string][]float64

// add notes what was seen in a look, and shows what was before.
func (h history) add(all []busy) []busy {
	next := make(history, len(all))
	for i, b := range all {
		x := append(h[b.volume.ID], b.read+b.written)
		next[b.volume.ID] = x[max(len(x)-topSpan, 0):]
		all[i].lately = next[b.volume.ID]
	}
	clear(h)
	maps.Copy(h, next)
	return all
}

// spark draws values one beside the other, by the most of them.
func spark(values []float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	most := slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = int(v / most * float64(len(steps)-1))
		}
		b.WriteRune(steps[i])
	}
	return b.String()
}

func busiest(was, is map[string]used) []busy {
	var out []busy
	for id, now := range is {
		b := busy{used: now}
		if before, ok := was[id]; ok && before.Epoch == now.Epoch && now.at.After(before.at) {
			secs := now.at.Sub(before.at).Seconds()
			rate := func(a, b int64) float64 { return max(float64(b-a)/secs, 0) }
			b.read, b.written = rate(before.ReadBytes, now.ReadBytes), rate(before.WrittenBytes, now.WrittenBytes)
			b.flushes, b.delayed = rate(before.Flushes, now.Flushes), rate(before.Activity.Delayed, now.Activity.Delayed)
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b busy) int {
		return cmp.Or(cmp.Compare(b.read+b.written, a.read+a.written), cmp.Compare(b.flushes, a.flushes), cmp.Compare(a.volume.Name, b.volume.Name))
	})
	return out
}

func topPage(ctx context.Context, c *client.Client, out io.Writer, volumes []busy, rows int) error {
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	hosts, err := c.Hosts(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n\n", plain(st.Sentence))
	if err := table(out, hosts, topHosts(), false); err != nil {
		return err
	}
	fmt.Fprintln(out)
	more := len(volumes) - rows
	if err := table(out, volumes[:min(len(volumes), rows)], topVolumes(), false); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(out, "and %d more that do less\n", more)
	}
	return nil
}

func topHosts() []column[v1.Host] {
	return []column[v1.Host]{
		{"HOST", false, func(h v1.Host) any { return h.Name }},
		{"RACK", false, func(h v1.Host) any { return h.Rack }},
		{"STATE", false, func(h v1.Host) any { return h.State }},
		{"VMS", false, func(h v1.Host) any { return len(h.VMs) }},
		{"CPUS", false, func(h v1.Host) any { return h.CPUs }},
		{"MEMORY", false, func(h v1.Host) any { return size(h.MemoryMiB) << 20 }},
		{"DISKS", false, func(h v1.Host) any { return size(h.BytesTotal) }},
		{"FREE", false, func(h v1.Host) any { return size(h.BytesFree) }},
	}
}

func topVolumes() []column[busy] {
	return []column[busy]{
		{"VOLUME", false, func(b busy) any { return b.volume.Name }},
		{"VM", false, func(b busy) any { return b.volume.VM }},
		{"WRITER", false, func(b busy) any { return b.Host }},
		{"STATE", false, func(b busy) any { return b.volume.State }},
		{"READ/S", false, func(b busy) any { return size(b.read) }},
		{"WRITTEN/S", false, func(b busy) any { return size(b.written) }},
		{"LATELY", false, func(b busy) any { return spark(b.lately) }},
		{"FLUSHES/S", false, func(b busy) any { return fmt.Sprintf("%.1f", b.flushes) }},
		{"HELD/S", false, func(b busy) any { return fmt.Sprintf("%.1f", b.delayed) }},
	}
}
