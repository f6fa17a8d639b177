package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// fioReport is what is read of fio's JSON.
type fioReport struct {
	Jobs []struct {
		Error int
		Read  struct {
			Total int64 `json:"total_ios"`
		}
		Write struct {
			Total int64 `json:"total_ios"`
			Bytes int64 `json:"io_bytes"`
		}
		Trim struct {
			Total int64 `json:"total_ios"`
		}
	}
}

// fio runs a job in a directory, where it also keeps its state.
func fio(ctx context.Context, dir, uri string, args ...string) (r fioReport, err error) {
	out, err := toolWith(ctx, dir, "", "fio", append([]string{"--name=judge", "--ioengine=nbd", "--uri=" + uri, "--verify=crc32c", "--verify_fatal=1",
		"--allrandrepeat=1", "--output-format=json", "--output=" + filepath.Join(dir, "out.json")}, args...)...)
	b, rerr := os.ReadFile(filepath.Join(dir, "out.json"))
	if rerr != nil {
		return r, errors.Join(err, rerr)
	}
	// fio prints errors in front of its JSON.
	for i := range b {
		if b[i] == '{' {
			if jerr := json.Unmarshal(b[i:], &r); jerr != nil || len(r.Jobs) != 1 {
				return r, errors.Join(err, fmt.Errorf("fio printed no report: %v\n%s\n%s", jerr, tail(string(b)), out))
			}
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, tail(string(b[:i])))
			}
			return r, err
		}
	}
	return r, errors.Join(err, fmt.Errorf("fio printed no report:\n%s\n%s", tail(string(b)), out))
}

// fioVerify writes and verifies in different shapes, without a fault.
func fioVerify(ctx context.Context, c *court) (string, error) {
	size := int64(128 * mib)
	if c.o.quick {
		size = 16 * mib
	}
	v, err := c.volume(ctx, "fio", size, "")
	if err != nil {
		return "", err
	}
	dir := c.path("fio")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var n, read int64
	for i, shape := range [][]string{
		{"--rw=randwrite", "--bs=4k", "--iodepth=32", "--fsync=64"},
		{"--rw=randrw", "--bsrange=512-64k", "--iodepth=32", "--fsync=32"},
		{"--rw=randtrimwrite", "--bs=4k", "--iodepth=1"},
		{"--rw=write", "--bs=1m", "--iodepth=8"},
		{"--rw=randwrite", "--bs=16k", "--iodepth=16", "--verify_backlog=256", "--verify_async=1"},
	} {
		h := c.l.Hosts[i%3]
		r, err := fio(ctx, dir, v.uri(h), append(shape, fmt.Sprintf("--size=%d", size), "--do_verify=1", fmt.Sprintf("--randseed=%d", c.rng.Uint32()))...)
		if err != nil {
			return "", fmt.Errorf("host %s: %w", h.Name, err)
		}
		n, read = n+r.Jobs[0].Write.Total, read+r.Jobs[0].Read.Total
	}
	return fmt.Sprintf("5 shapes, one with trims: %d writes, %d blocks verified", n, read), v.delete(ctx)
}
