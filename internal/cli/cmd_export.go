package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func exportColumns() []column[v1.Export] {
	return []column[v1.Export]{
		{"NAME", false, func(e v1.Export) any { return e.Name }},
		{"STATE", false, func(e v1.Export) any { return e.State }},
		{"HOST", false, func(e v1.Export) any { return e.Host }},
		{"VOLUMES", false, func(e v1.Export) any { return units(e) }},
		{"INITIATORS", false, func(e v1.Export) any { return initiators(e) }},
		{"TARGET", false, func(e v1.Export) any { return e.Target }},
		{"PORTALS", true, func(e v1.Export) any { return portals(e) }},
		{"CREATED", true, func(e v1.Export) any { return e.Created }},
		{"ID", true, func(e v1.Export) any { return e.ID }},
	}
}

func exportName(e v1.Export) string { return e.Name }

// units prints the volumes in the order of their numbers.
func units(e v1.Export) string {
	var out []string
	for _, u := range e.Units {
		text := u.Volume
		if u.ReadOnly {
			text += "(read-only)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

func initiators(e v1.Export) string {
	var out []string
	for _, i := range e.Initiators {
		text := i.Name
		switch i.CHAP {
		case "one-way":
			text += "(CHAP)"
		case "mutual":
			text += "(mutual CHAP)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// portals prints the addresses; * stands at those beside the data, what cannot
// be reached is in brackets.
func portals(e v1.Export) string {
	var out []string
	for _, p := range e.Portals {
		text := fmt.Sprintf("%s,%d", p.Addr, p.Group)
		switch p.State {
		case "optimized":
			text += "*"
		case "unavailable":
			text = "(" + text + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func (a *app) exportCmd() *cobra.Command {
	exports := resource[v1.Export]{noun: "export", many: "the volumes that are reachable over iSCSI", cols: exportColumns(), name: exportName,
		all: (*client.Client).Exports, one: (*client.Client).Export}
	var plan bool
	del := &cobra.Command{Use: "delete EXPORT", Short: "End an export and its sessions; the volumes stay", Args: args("EXPORT"),
		Example: "  holdfast export delete db --plan\n  holdfast export delete db",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			if plan {
				e, err := c.Export(ctx, args[0])
				if err != nil {
					return err
				}
				return a.planned(fmt.Sprintf("Target %s would be gone, with its sessions, persistent reservations and the list of %d initiators.", e.Target, len(e.Initiators)),
					fmt.Sprintf("Its volumes (%s) would stay.", units(e)))
			}
			if err := c.DeleteExport(ctx, args[0]); err != nil {
				return err
			}
			return a.done("export", args[0], "Export "+args[0]+" is ended; its volumes stay.")
		})}
	del.Flags().BoolVar(&plan, "plan", false, "only say what would be lost")
	deny := &cobra.Command{Use: "deny EXPORT INITIATOR", Short: "Let an initiator log in no more, and end its sessions", Args: args("EXPORT", "INITIATOR"),
		Example: "  holdfast export deny db iqn.1993-08.org.debian:01:host1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			e, err := c.DenyInitiator(ctx, args[0], args[1])
			return printed(a, e, err, exportColumns(), exportName)
		})}
	return noun("export", "Volumes made reachable over iSCSI", listCmd(a, exports), showCmd(a, exports, "db"), a.exportCreateCmd(), a.exportAllowCmd(), deny, del)
}

func (a *app) exportCreateCmd() *cobra.Command {
	var volumes []string
	c := &cobra.Command{Use: "create NAME", Short: "Make volumes reachable as an iSCSI target; nobody may log in yet", Args: args("NAME"),
		Long: `Make volumes reachable as one iSCSI target, numbered from 0 in the order given.
Nobody may log in until 'holdfast export allow' says who.

Every host with a portal ('iscsi' in its configuration) answers for the target;
the ones in the rack where the data is written are marked with * by 'export list
-o wide', and initiators with multipath find that out by themselves (ALUA).`,
		Example: `  holdfast export create db --volume db-data --volume db-log
  holdfast export create media --volume films,read-only
  holdfast export create disk4k --volume big,4k`,
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			s := v1.ExportSpec{Name: args[0]}
			for _, v := range volumes {
				u, err := parseUnit(v)
				if err != nil {
					return err
				}
				s.Units = append(s.Units, u)
			}
			if len(s.Units) == 0 {
				return usageError{fmt.Errorf("--volume is missing; usage: holdfast export create NAME --volume VOLUME")}
			}
			e, err := c.CreateExport(ctx, s)
			return printed(a, e, err, exportColumns(), exportName)
		})}
	c.Flags().StringArrayVar(&volumes, "volume", nil, "`VOLUME[,read-only][,removable][,4k]`: a volume to be a unit; may be given several times")
	return c
}

// parseUnit reads VOLUME[,read-only][,removable][,4k].
func parseUnit(text string) (v1.UnitSpec, error) {
	words := strings.Split(text, ",")
	u := v1.UnitSpec{Volume: words[0]}
	for _, w := range words[1:] {
		switch w {
		case "read-only":
			u.ReadOnly = true
		case "removable":
			u.Removable = true
		case "4k":
			u.BlockSize = 4096
		default:
			return u, holdfast.Errorf(holdfast.Invalid, "--volume %q: after the name may stand read-only, removable and 4k", plain(text))
		}
	}
	return u, nil
}

func (a *app) exportAllowCmd() *cobra.Command {
	var s v1.InitiatorSpec
	var secret, mutual string
	c := &cobra.Command{Use: "allow EXPORT INITIATOR", Short: "Let an initiator log in, or change its secrets", Args: args("EXPORT", "INITIATOR"),
		Long: `Let an initiator log in, or change the secrets of one that may.

INITIATOR is its iSCSI name; on Linux it stands in /etc/iscsi/initiatorname.iscsi.
Without a secret the name is enough, and names can be forged: give a CHAP secret
wherever others can reach the portals. Secrets have 12 to 255 bytes, are read from
a file or from standard input (one line), and are never shown again.`,
		Example: `  holdfast export allow db iqn.1993-08.org.debian:01:host1 --secret-file chap.secret
  pass show db-chap | holdfast export allow db iqn.1993-08.org.debian:01:host1 --secret-file -
  holdfast export allow db iqn.1993-08.org.debian:01:host1 --secret-file in --mutual-secret-file out
  holdfast export allow scratch '*'`,
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) (err error) {
			s.Name = args[1]
			if secret == "-" && mutual == "-" {
				return usageError{fmt.Errorf("only one of --secret-file and --mutual-secret-file can be standard input")}
			}
			if s.Secret, err = a.readSecret("--secret-file", secret); err != nil {
				return err
			}
			if s.MutualSecret, err = a.readSecret("--mutual-secret-file", mutual); err != nil {
				return err
			}
			e, err := c.AllowInitiator(ctx, args[0], s)
			return printed(a, e, err, exportColumns(), exportName)
		})}
	f := c.Flags()
	f.StringVar(&secret, "secret-file", "", "`file` with the CHAP secret that the initiator must know, or - for standard input")
	f.StringVar(&s.User, "user", "", "CHAP `name` of the initiator (default: its iSCSI name)")
	f.StringVar(&mutual, "mutual-secret-file", "", "`file` with the secret by which the target proves who it is, or -")
	f.StringVar(&s.MutualUser, "mutual-user", "", "CHAP `name` of the target (default: its iSCSI name)")
	return c
}

// readSecret reads the first line of a file, or of standard input for "-".
func (a *app) readSecret(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	in := a.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", holdfast.Errorf(holdfast.NotFound, "%s: %w", flag, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4096))
	if err != nil {
		return "", holdfast.Errorf(holdfast.IO, "%s: %w", flag, err)
	}
	line, rest, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || strings.TrimSpace(rest) != "" {
		return "", holdfast.Errorf(holdfast.Invalid, "%s: give one line with the secret and nothing else", flag)
	}
	return line, nil
}
