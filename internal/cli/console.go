package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast/client"
)

const detach = 0x1d // Ctrl-]

func (a *app) consoleCmd() *cobra.Command {
	return &cobra.Command{Use: "console VM", Short: "Attach to a VM's serial console; Ctrl-] leaves it", Args: args("VM"),
		Example: "  holdfast console db1\n  echo uptime | holdfast console db1",
		RunE: a.with(func(ctx context.Context, c *client.Client, args []string) error {
			con, err := c.Console(ctx, args[0], false)
			if err != nil {
				return err
			}
			defer con.Close()
			if fd, ok := terminal(a.Stdin); ok {
				fmt.Fprintf(a.Stderr, "Console of %s. Ctrl-] leaves it.\r\n", plain(args[0]))
				restore, err := rawMode(fd)
				if err != nil {
					return err
				}
				defer restore()
			}
			return a.attach(ctx, con)
		})}
}

// attach copies both ways until the console ends, the user leaves or ctx ends.
func (a *app) attach(ctx context.Context, con io.ReadWriteCloser) error {
	stop := context.AfterFunc(ctx, func() { con.Close() })
	defer stop()
	left := make(chan struct{})
	go func() { // ends with the process at the latest: a read of a terminal cannot be interrupted
		if keys(con, a.Stdin) {
			close(left)
			con.Close()
		}
	}()
	_, err := io.Copy(a.Stdout, con)
	select {
	case <-left:
		return nil
	default:
	}
	if ctx.Err() != nil || err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// keys sends what is typed and reports whether the user asked to leave. The
// end of input is not that: what the guest prints is still wanted.
func keys(con io.Writer, in io.Reader) bool {
	buf := make([]byte, 1024)
	for {
		n, err := in.Read(buf)
		typed := buf[:n]
		i := bytes.IndexByte(typed, detach)
		if i >= 0 {
			typed = typed[:i]
		}
		if len(typed) > 0 {
			if _, werr := con.Write(typed); werr != nil {
				return false
			}
		}
		if i >= 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// rawMode hands every key to the guest, also Ctrl-C.
func rawMode(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}
