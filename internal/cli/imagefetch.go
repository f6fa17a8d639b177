package cli

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// isURL reports whether what is to be imported is to be got by a host.
func isURL(text string) bool {
	text = strings.ToLower(text)
	return strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")
}

// urlName makes a name of a URL's last part.
func urlName(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return imageName(path.Base(u.Path))
}

// fetchImage has the host get an image, and waits for it unless told not to.
func (a *app) fetchImage(ctx context.Context, c *client.Client, f v1.ImageFetch, wait bool) error {
	t, err := c.FetchImage(ctx, f)
	if err != nil {
		return err
	}
	if !wait {
		return a.done("task", t.ID, fmt.Sprintf("Image %s is being got, as task %s: 'holdfast task wait %[2]s' waits for it.", f.Name, t.ID))
	}
	t, err = a.await(ctx, c, t.ID, "importing "+f.Name)
	if ctx.Err() != nil {
		fmt.Fprintf(a.Stderr, "The host goes on with it: 'holdfast task wait %s' waits for it, 'holdfast task cancel %[1]s' ends it.\n", t.ID)
	}
	if err == nil {
		err = taskError(t)
	}
	if err != nil {
		return err
	}
	v, err := c.Image(ctx, f.Name)
	return printed(a, v, err, imageColumns(), volumeName)
}

// onlyFor refuses flags that mean nothing for what is imported.
func onlyFor(fetched bool, size, backing bool, sum string, max int64, noWait bool) error {
	switch {
	case fetched && size:
		return holdfast.Errorf(holdfast.Invalid, "--size is of what comes from standard input; the server says how large its file is, and --max-size how large it may be")
	case fetched && backing:
		return holdfast.Errorf(holdfast.Invalid, "--backing is a directory of this computer, and the host gets the image: download the files and import them here")
	case !fetched && (sum != "" || max > 0 || noWait):
		return holdfast.Errorf(holdfast.Invalid, "--sha256, --max-size and --no-wait go with a URL, whose file the host gets")
	}
	return nil
}
