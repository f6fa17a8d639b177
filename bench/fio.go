package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// workload is one way of using a disk.
type workload struct {
	name string
	args []string
}

var workloads = [...]workload{
	{"random read, 32", []string{"--rw=randread", "--iodepth=32"}},
	{"random write, 32", []string{"--rw=randwrite", "--iodepth=32"}},
	{"write+flush, 1", []string{"--rw=randwrite", "--iodepth=1", "--fsync=1"}},
}

// fill writes noise over the range, so that reads find data everywhere.
func fill(c *candidate, size int64) error {
	_, err := runFio(c, "--rw=write", "--bs=1m", "--iodepth=4", fmt.Sprintf("--size=%d", size), "--end_fsync=1", "--refill_buffers=1")
	return err
}

// fio returns a workload's operations per second; of write+flush, the pairs.
func fio(c *candidate, w workload, s settings) (float64, error) {
	args := append([]string{"--bs=4k", "--norandommap", "--time_based", "--randrepeat=0",
		fmt.Sprintf("--size=%d", s.Size), fmt.Sprintf("--runtime=%dms", int(s.Seconds*1000))}, w.args...)
	return runFio(c, args...)
}

// runFio runs one job and returns its reads and writes per second.
func runFio(c *candidate, args ...string) (float64, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "out.json") // fio mixes messages into its standard output
	args = append(args, "--name=bench", "--ioengine=nbd", "--uri=nbd+unix:///?socket="+c.socket,
		"--output-format=json", "--output="+out)
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

// parseFio reads fio's JSON.
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
	if len(out.Jobs) != 1 {
		return 0, fmt.Errorf("%d jobs in its output, want 1", len(out.Jobs))
	}
	j := out.Jobs[0]
	if j.Error != 0 {
		return 0, fmt.Errorf("error %d", j.Error)
	}
	if j.Read.Total+j.Write.Total == 0 {
		return 0, fmt.Errorf("nothing was read or written")
	}
	return j.Read.IOPS + j.Write.IOPS, nil
}
