package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/holdfast-cloud/holdfast/internal/cli"
	"github.com/holdfast-cloud/holdfast/internal/drill"
	"github.com/holdfast-cloud/holdfast/internal/sim"
	"github.com/holdfast-cloud/holdfast/lab"
)

const docs = "usr/share/doc/holdfast"

// layOut puts everything but the program where it is installed, below tree.
func layOut(tree, repo, version string) error {
	for from, to := range map[string]string{
		"deploy/systemd/holdfast.service": "usr/lib/systemd/system/holdfast.service",
		"deploy/holdfast.yaml":            docs + "/holdfast.yaml",
		"docs/protocol/config.md":         docs + "/configuration.md",
		"deploy/prometheus/alerts.yml":    docs + "/alerts.yml",
		"deploy/grafana/holdfast.json":    docs + "/dashboard.json",
		"README.md":                       docs + "/README.md",
		"LICENSE":                         docs + "/copyright",
	} {
		b, err := os.ReadFile(filepath.Join(repo, from))
		if err != nil {
			return err
		}
		if err := put(tree, to, b); err != nil {
			return err
		}
	}
	if err := runbooksInto(tree, repo); err != nil {
		return err
	}
	root := tellable(version)
	if err := manuals(tree, root); err != nil {
		return err
	}
	return completions(tree, root)
}

func put(tree, name string, content []byte) error {
	to := filepath.Join(tree, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

func runbooksInto(tree, repo string) error {
	from := os.DirFS(filepath.Join(repo, "docs/runbooks"))
	pages, err := fs.Glob(from, "*.md")
	if err != nil || len(pages) == 0 {
		return fmt.Errorf("docs/runbooks: no pages: %v", err)
	}
	for _, p := range pages {
		b, err := fs.ReadFile(from, p)
		if err != nil {
			return err
		}
		if err := put(tree, docs+"/runbooks/"+p, b); err != nil {
			return err
		}
	}
	return nil
}

// tellable is the tree of commands, as it is told of.
func tellable(version string) *cobra.Command {
	nothing := func(string) string { return "" }
	labs := lab.Command(nothing)
	labs.AddCommand(drill.PlayCommand(nothing))
	root := cli.Commands(cli.Env{Version: version, Getenv: nothing, Extra: []*cobra.Command{labs, drill.Command(nothing), sim.Command(version)}})
	root.DisableAutoGenTag = true // it would tell the day
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// manuals writes a page for each command (man 7 man-pages), section 1.
func manuals(tree string, root *cobra.Command) error {
	date := time.Unix(0, 0) // the version says which one it is
	title := doc.GenManHeader{Section: "1", Source: "Holdfast " + root.Version, Manual: "Holdfast", Date: &date}
	return each(root, func(c *cobra.Command) error {
		header := title
		var page bytes.Buffer
		if err := doc.GenMan(c, &header, &page); err != nil {
			return err
		}
		b, err := gzipped(page.Bytes())
		if err != nil {
			return err
		}
		return put(tree, "usr/share/man/man1/"+strings.ReplaceAll(c.CommandPath(), " ", "-")+".1.gz", b)
	})
}

// each calls f for every command that is shown.
func each(c *cobra.Command, f func(*cobra.Command) error) error {
	if !c.IsAvailableCommand() && c.HasParent() {
		return nil
	}
	for _, sub := range c.Commands() {
		if err := each(sub, f); err != nil {
			return err
		}
	}
	return f(c)
}

// gzipped has no time and no name in it.
func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	err = z.Close()
	return out.Bytes(), err
}

func completions(tree string, root *cobra.Command) error {
	var bash, zsh, fish bytes.Buffer
	if err := root.GenBashCompletionV2(&bash, true); err != nil {
		return err
	}
	if err := root.GenZshCompletion(&zsh); err != nil {
		return err
	}
	if err := root.GenFishCompletion(&fish, true); err != nil {
		return err
	}
	for name, b := range map[string]*bytes.Buffer{
		"usr/share/bash-completion/completions/holdfast":    &bash,
		"usr/share/zsh/vendor-completions/_holdfast":        &zsh,
		"usr/share/fish/vendor_completions.d/holdfast.fish": &fish,
	} {
		if err := put(tree, name, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
