package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

func (a *app) loginCmd() *cobra.Command {
	var in passwordFlag
	c := &cobra.Command{Use: "login USER --host HOST:PORT --credential DIR", Short: "Log in at another computer's host", Args: args("USER"),
		Long: `Log in at a host of a cluster on another computer. The directory holds the
cluster's ca.pem, by which the host is known; the session is put there, and
commands with the same --host and --credential use it until it ends: after
twelve hours, an hour without use, or 'holdfast logout'.

On a host itself no log-in is needed: its socket is enough.`,
		Example: "  holdfast login ann --host c1.example:7440 --credential ~/.config/holdfast/field\n  export HOLDFAST_HOST=c1.example:7440 HOLDFAST_CREDENTIAL=~/.config/holdfast/field; holdfast login ann; holdfast status",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, dir, err := client.Remote(a.choice)
			if err != nil {
				return err
			}
			defer c.Close()
			pw, err := in.read(a, "Password of "+args[0], false)
			if err != nil {
				return err
			}
			s, secret, err := c.Login(cmd.Context(), v1.Login{User: args[0], Password: pw})
			if err != nil {
				return err
			}
			if err := client.SaveSession(dir, secret); err != nil {
				return err
			}
			until := ""
			if s.Expires != nil {
				until = ", until " + s.Expires.UTC().Format(time.RFC3339)
			}
			return a.done("user", s.User, "Logged in as "+s.User+" ("+s.Role+")"+until+".")
		}}
	in.add(c)
	return c
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "End the session that 'login' began", Args: args(),
		Example: "  holdfast logout --host c1.example:7440 --credential ~/.config/holdfast/field",
		RunE: a.with(func(ctx context.Context, c *client.Client, _ []string) error {
			if err := c.Logout(ctx); err != nil && !holdfast.IsKind(err, holdfast.Denied) {
				return err
			}
			if _, dir, err := client.Remote(a.choice); err == nil {
				if err := client.SaveSession(dir, ""); err != nil {
					return err
				}
			}
			return a.done("session", "", "Logged out.")
		})}
}

// passwordFlag is where a password comes from: a terminal, a file or standard
// input, and never the command line, which others can see.
type passwordFlag struct {
	file string
	rest *bufio.Reader // of the file: several passwords are its lines
}

func (f *passwordFlag) add(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "password-file", "", "`file` with the password, or - for standard input; default: it is asked for")
}

// maxPasswordFile bounds what is read.
const maxPasswordFile = 8192

// read reads the next password; a new one is asked for twice.
func (f *passwordFlag) read(a *app, what string, isNew bool) (string, error) {
	fd, isTerminal := terminal(a.Stdin)
	if f.file == "" && isTerminal {
		return a.ask(fd, what, isNew)
	}
	if f.file == "" {
		return "", usageError{errors.New("there is no terminal to ask for the password; give --password-file FILE, or - for standard input")}
	}
	if f.rest == nil {
		in := a.Stdin
		if f.file != "-" {
			r, err := os.Open(f.file)
			if err != nil {
				return "", holdfast.Errorf(holdfast.NotFound, "password: %w", err)
			}
			defer r.Close()
			in = r
		}
		b, err := io.ReadAll(io.LimitReader(in, maxPasswordFile))
		if err != nil {
			return "", holdfast.Errorf(holdfast.IO, "password: %w", err)
		}
		f.rest = bufio.NewReader(strings.NewReader(string(b)))
	}
	line, err := f.rest.ReadString('\n')
	if err != nil && line == "" {
		return "", holdfast.Errorf(holdfast.Invalid, "%s: there is none in %s", what, f.file)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// ask asks at the terminal, without showing what is typed.
func (a *app) ask(fd int, what string, twice bool) (string, error) {
	first, err := a.askOnce(fd, what)
	if err != nil || !twice {
		return first, err
	}
	again, err := a.askOnce(fd, "The same again")
	if err == nil && again != first {
		err = holdfast.Errorf(holdfast.Invalid, "the two passwords differ; nothing was changed")
	}
	return first, err
}

func (a *app) askOnce(fd int, what string) (string, error) {
	fmt.Fprintf(a.Stderr, "%s: ", plain(what))
	defer fmt.Fprintln(a.Stderr)
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", err
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }()
	return typed(a.Stdin)
}

// typed reads a line key by key, and no further: what is typed next is not ours.
func typed(in io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < maxPasswordFile; {
		n, err := in.Read(b)
		if n == 0 {
			if err != nil {
				return "", holdfast.Errorf(holdfast.IO, "password: %w", err)
			}
			continue
		}
		switch b[0] {
		case '\n', '\r':
			return string(line), nil
		case 3, 4: // Ctrl-C, Ctrl-D
			return "", context.Canceled
		case 8, 127: // the whole last character goes
			for len(line) > 0 {
				last := line[len(line)-1]
				line = line[:len(line)-1]
				if utf8.RuneStart(last) {
					break
				}
			}
		default:
			line = append(line, b[0])
		}
	}
	return "", holdfast.Errorf(holdfast.Invalid, "the password has more than %d bytes", maxPasswordFile)
}
