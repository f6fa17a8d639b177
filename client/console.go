package client

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/holdfast-cloud/holdfast"
)

// Console attaches to a VM's serial port: what it printed before comes first.
// Read returns io.EOF when the console ends. local asks the host to refuse if
// it does not run the VM itself. Read and Write may be called from one
// goroutine each, Close from any.
func (c *Client) Console(ctx context.Context, vm string, local bool) (io.ReadWriteCloser, error) {
	return c.port(ctx, vm, "console", local)
}

// Screen attaches to a VM's screen, keyboard and pointer: RFB (RFC 6143) without
// authentication, the VM's side speaking first. For the rest see Console.
func (c *Client) Screen(ctx context.Context, vm string, local bool) (io.ReadWriteCloser, error) {
	return c.port(ctx, vm, "screen", local)
}

func (c *Client) port(ctx context.Context, vm, what string, local bool) (io.ReadWriteCloser, error) {
	where := ""
	if local {
		where = "true"
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }
	d := websocket.Dialer{NetDialContext: dial, NetDialTLSContext: dial, HandshakeTimeout: 2 * dialTimeout,
		ReadBufferSize: 16 << 10, WriteBufferSize: 4096}
	u := "ws" + strings.TrimPrefix(c.base, "http") + query(path("vms", vm, what), "local", where)
	ws, resp, err := d.DialContext(ctx, u, c.header)
	if err == nil {
		ws.SetReadLimit(1 << 20)
		return &console{ws: ws}, nil
	}
	if resp != nil && resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, refusal(resp, resp.Body)
	}
	return nil, c.unreachable(ctx, err)
}

// console is a websocket read and written as a stream of bytes.
type console struct {
	ws   *websocket.Conn
	rest io.Reader // of the message being read
	once sync.Once
}

func (c *console) Read(b []byte) (int, error) {
	for {
		if c.rest == nil {
			_, r, err := c.ws.NextReader()
			if err != nil {
				return 0, ended(err)
			}
			c.rest = r
		}
		n, err := c.rest.Read(b)
		if errors.Is(err, io.EOF) {
			c.rest, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func ended(err error) error {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway) {
		return io.EOF
	}
	return holdfast.Errorf(holdfast.Unavailable, "the console was cut off: %w", err)
}

func (c *console) Write(b []byte) (int, error) {
	const most = 8 << 10 // the host takes 16 KiB a message
	for done := 0; done < len(b); {
		n := min(len(b)-done, most)
		if err := c.ws.WriteMessage(websocket.BinaryMessage, b[done:done+n]); err != nil {
			return done, ended(err)
		}
		done += n
	}
	return len(b), nil
}

func (c *console) Close() error {
	var err error
	c.once.Do(func() {
		msg := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = c.ws.WriteControl(websocket.CloseMessage, msg, time.Now().Add(time.Second))
		err = c.ws.Close()
	})
	return err
}
