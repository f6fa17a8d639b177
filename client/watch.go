package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// watchLine bounds a line of the watch stream, in bytes: an event is one.
const watchLine = 4 << 20

// Watch follows the cluster: each is called with everything there is, between
// events of the kinds all and ready, and then with each change as it comes, until
// ctx ends, the stream breaks off, or each returns an error, which Watch returns.
// after is At of the last event of an earlier stream that had one, of any host, or
// empty. Kind Unavailable: the stream broke off; go on with another call.
func (c *Client) Watch(ctx context.Context, after string, each func(v1.Event) error) error {
	req, err := c.request(ctx, http.MethodGet, query(path("watch"), "after", after), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp, resp.Body)
	}
	err = readEvents(resp.Body, each)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// readEvents reads server-sent events (HTML, section 9.2.6), of which it takes the
// data alone: their kind and place stand in there too. It ends with an error.
func readEvents(r io.Reader, each func(v1.Event) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 64<<10), watchLine)
	for in.Scan() {
		data, ok := bytes.CutPrefix(in.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var e v1.Event
		if err := json.Unmarshal(data, &e); err != nil || e.Kind == "" {
			return holdfast.Errorf(holdfast.Other, "the watch stream: %.100q is not an event", data)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	err := in.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return holdfast.Errorf(holdfast.Other, "the watch stream: an event of more than %d bytes", watchLine)
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return holdfast.Errorf(holdfast.Unavailable, "the watch stream broke off: %w", err)
}
