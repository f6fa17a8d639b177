package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) diffCmd() *cobra.Command {
	return &cobra.Command{Use: "diff VOLUME FROM TO", Short: "What differs between two snapshots, or a snapshot and now", Args: args("VOLUME", "FROM", "TO"),
		Long: "List the stretches of a volume in which TO does not hold what FROM held, in whole blocks of 4096 bytes: what was written\n" +
			"between them, and with 'zero' what was discarded. Nothing is read but the block maps. FROM and TO are snapshots, or\n\n" +
			"  head      the volume as it is now; later writes may be shown, too\n  nothing   a volume in which nothing was ever written: all that TO holds is then shown",
		Example: "  holdfast volume diff data monday tuesday     # what an incremental backup has to copy\n" +
			"  holdfast volume diff data monday head        # what 'volume revert data monday' would undo\n" +
			"  holdfast volume diff data nothing monday -o csv\n  holdfast volume diff data monday head -o json",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			out := bufio.NewWriter(a.Stdout)
			p := extents{a: a, out: out}
			size, err := c.Diff(ctx, args[0], client.DiffAsk{From: args[1], To: args[2]}, p.add)
			if err == nil {
				err = p.end(size)
			}
			if ferr := out.Flush(); err == nil {
				err = ferr
			}
			return err
		})}
}

// extents prints extents as they come, since there may be millions.
type extents struct {
	a             *app
	out           io.Writer
	n             int
	changed, zero int64 // bytes
}

func (p *extents) add(e v1.Extent) error {
	if err := p.row(e); err != nil {
		return err
	}
	p.n++
	p.changed += e.Length
	if e.Zero {
		p.zero += e.Length
	}
	return nil
}

func (p *extents) row(e v1.Extent) (err error) {
	switch p.a.format {
	case "json":
		between := ",\n"
		if p.n == 0 {
			between = "[\n"
		}
		var b []byte
		if b, err = json.MarshalIndent(e, "  ", "  "); err == nil {
			_, err = fmt.Fprintf(p.out, "%s  %s", between, b)
		}
	case "yaml":
		var b []byte
		if b, err = yamlOf([]v1.Extent{e}); err == nil {
			_, err = p.out.Write(b)
		}
	case "csv":
		p.head("offset,length,zero\n")
		_, err = fmt.Fprintf(p.out, "%d,%d,%t\n", e.Offset, e.Length, e.Zero)
	case "name":
		_, err = fmt.Fprintln(p.out, e.Offset)
	default:
		p.head(fmt.Sprintf(extentRow, "OFFSET", "LENGTH", "ZERO"))
		_, err = fmt.Fprintf(p.out, extentRow, fmt.Sprint(e.Offset), fmt.Sprint(e.Length), people(e.Zero))
	}
	return err
}

// extentRow has room for the offsets of a volume of 64 TiB.
const extentRow = "%-14s  %-14s  %s\n"

// head prints what stands over the first row; that it fails shows with the row.
func (p *extents) head(text string) {
	if p.n == 0 {
		io.WriteString(p.out, text)
	}
}

// end prints what comes after the last extent.
func (p *extents) end(size int64) (err error) {
	switch p.a.format {
	case "json":
		text := "\n]\n"
		if p.n == 0 {
			text = "[]\n"
		}
		_, err = io.WriteString(p.out, text)
	case "yaml":
		if p.n == 0 {
			_, err = io.WriteString(p.out, "[]\n")
		}
	case "csv":
		p.head("offset,length,zero\n")
	case "name":
	default:
		_, err = io.WriteString(p.out, p.total(size))
	}
	return err
}

// total is the last line of the table.
func (p *extents) total(size int64) string {
	if p.n == 0 {
		return fmt.Sprintf("Total: nothing of %s differs.\n", formatSize(size))
	}
	text := fmt.Sprintf("Total: %d bytes (%s) of %s differ, in extents: %d.", p.changed, formatSize(p.changed), formatSize(size), p.n)
	if p.zero > 0 {
		text += fmt.Sprintf(" Of these, %d bytes (%s) are zero in the later state.", p.zero, formatSize(p.zero))
	}
	return text + "\n"
}
