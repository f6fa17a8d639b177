package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

func formats() []string { return []string{"table", "wide", "json", "yaml", "csv", "name"} }

func checkFormat(f string) error {
	if slices.Contains(formats(), f) {
		return nil
	}
	text := fmt.Sprintf("--output %q: it can be %s", f, strings.Join(formats(), ", "))
	if near := nearest.Of(f, formats()); near != "" {
		text += "; did you mean " + near + "?"
	}
	return holdfast.Errorf(holdfast.Invalid, "%s", text)
}

// column is one column of a table. A cell may be a string, a number, a size
// or a time; people read it rounded in tables and exactly in csv.
type column[T any] struct {
	head string
	wide bool // only shown with -o wide, csv and when one thing is shown
	cell func(T) any
}

// size is a number of bytes.
type size int64

// printOne prints one thing, printAll many, in the chosen format.
func printOne[T any](a *app, v T, cols []column[T], name func(T) string) error {
	switch a.format {
	case "table", "wide":
		w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
		for _, c := range cols {
			if text := people(c.cell(v)); text != "" {
				fmt.Fprintf(w, "%s\t%s\n", strings.ToLower(c.head)+":", text)
			}
		}
		return w.Flush()
	case "json", "yaml":
		return a.encode(v)
	}
	return printAll(a, []T{v}, cols, name)
}

func printAll[T any](a *app, vs []T, cols []column[T], name func(T) string) error {
	switch a.format {
	case "json", "yaml":
		return a.encode(vs)
	case "name":
		for _, v := range vs {
			fmt.Fprintln(a.Stdout, name(v))
		}
		return nil
	case "csv":
		return writeCSV(a.Stdout, vs, cols)
	}
	return table(a.Stdout, vs, cols, a.format == "wide")
}

func table[T any](out io.Writer, vs []T, cols []column[T], wide bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(cell func(column[T]) string) {
		var words []string
		for _, c := range cols {
			if wide || !c.wide {
				words = append(words, cell(c))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(words, "\t"), "\t "))
	}
	row(func(c column[T]) string { return c.head })
	for _, v := range vs {
		row(func(c column[T]) string {
			if text := people(c.cell(v)); text != "" {
				return text
			}
			return "-"
		})
	}
	return w.Flush()
}

func writeCSV[T any](out io.Writer, vs []T, cols []column[T]) error {
	w := csv.NewWriter(out)
	var head []string
	for _, c := range cols {
		head = append(head, strings.ToLower(c.head))
	}
	if err := w.Write(head); err != nil {
		return err
	}
	for _, v := range vs {
		var row []string
		for _, c := range cols {
			row = append(row, exact(c.cell(v)))
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// people prints a cell for reading. Text from elsewhere cannot move the
// cursor or break the table.
func people(v any) string {
	switch v := v.(type) {
	case size:
		return formatSize(int64(v))
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format("2006-01-02 15:04:05Z")
	case int:
		return fmt.Sprint(v)
	case bool:
		return map[bool]string{true: "yes", false: "no"}[v]
	}
	return plain(fmt.Sprint(v))
}

func exact(v any) string {
	switch v := v.(type) {
	case size:
		return fmt.Sprint(int64(v))
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	}
	return fmt.Sprint(v)
}

// plain replaces control characters, so that a name or a guest's text cannot
// play tricks on a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// encode prints JSON, or YAML with the same names in the same order.
func (a *app) encode(v any) error {
	b, err := jsonOf(v)
	if err == nil && a.format == "yaml" {
		b, err = yamlOf(v)
	}
	if err == nil {
		_, err = a.Stdout.Write(b)
	}
	return err
}

func jsonOf(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

func yamlOf(v any) ([]byte, error) {
	b, err := jsonOf(v)
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, err
	}
	block(&n)
	var out bytes.Buffer
	y := yaml.NewEncoder(&out)
	y.SetIndent(2)
	if err := y.Encode(&n); err != nil {
		return nil, err
	}
	err = y.Close()
	return out.Bytes(), err
}

// block turns JSON's flow style into YAML's block style.
func block(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style = 0
	} else if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && !strings.Contains(n.Value, "\n") {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}
