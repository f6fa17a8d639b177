package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// fill writes noise over the range, so that reads find data everywhere.
func fill(c *candidate, uri string, size int64) error {
	_, err := runFio(c, []string{"--rw=write", "--bs=1m", "--iodepth=4", fmt.Sprintf("--size=%d", size), "--end_fsync=1", "--refill_buffers=1"}, uri)
	return err
}

// fio returns a cell's operations per second; of write+flush, the pairs.
func fio(c *candidate, w cell, s settings) (float64, error) {
	size, disks := s.Size, []string{c.uri}
	if w.clients {
		size, disks = clientBytes, c.clients
	}
	args := append([]string{"--norandommap", "--time_based", "--randrepeat=0", fmt.Sprintf("--size=%d", size),
		fmt.Sprintf("--runtime=%dms", int(s.Seconds*1000))}, w.args...)
	return runFio(c, args, disks...)
}

// runFio runs one job on each disk at the same time and returns their reads and
// writes per second.
func runFio(c *candidate, args []string, disks ...string) (float64, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out.json") // fio mixes messages into its standard output
	args = append([]string{"--output-format=json", "--output=" + out}, args...)
	if c.file != "" {
		args = append(args, "--name=bench", "--ioengine=io_uring", "--direct=1", "--filename="+c.file)
	} else {
		args = append(args, "--ioengine=nbd")
		for i, uri := range disks {
			args = append(args, fmt.Sprintf("--name=bench%d", i), "--uri="+uri)
		}
	}
	if text, err := exec.Command("fio", args...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("fio on %s: %w\n%s", c.name, err, strings.TrimSpace(string(text)))
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	ops, err := parseFio(b)
	if err != nil {
		return 0, fmt.Errorf("fio on %s: %w", c.name, err)
	}
	return ops, nil
}

// parseFio reads fio's JSON and adds up its jobs.
func parseFio(b []byte) (float64, error) {
	type side struct {
		IOPS  float64 `json:"iops"`
		Total int64   `json:"total_ios"`
	}
	var out struct {
		Jobs []struct {
			Error int  `json:"error"`
			Read  side `json:"read"`
			Write side `json:"write"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return 0, err
	}
	if len(out.Jobs) == 0 {
		return 0, fmt.Errorf("no job in its output")
	}
	sum := 0.0
	for _, j := range out.Jobs {
		if j.Error != 0 {
			return 0, fmt.Errorf("error %d", j.Error)
		}
		if j.Read.Total+j.Write.Total == 0 {
			return 0, fmt.Errorf("nothing was read or written")
		}
		sum += j.Read.IOPS + j.Write.IOPS
	}
	return sum, nil
}
