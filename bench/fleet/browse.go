package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// page is what was measured in the browser, one for each run.
type page struct {
	Ready  []float64 `json:"ready"`  // ms
	Again  []float64 `json:"again"`  // ms
	Files  []float64 `json:"files"`  // kB
	Stream []float64 `json:"stream"` // kB
	Commit []float64 `json:"commit"` // ms
}

// browse has a browser load the first page of a fleet.
func browse(ctx context.Context, o options, f *served) (p page, err error) {
	cmd := exec.CommandContext(ctx, "node", o.script)
	cmd.Env = append(os.Environ(), "FLEET_URL="+f.url, "FLEET_SETUP="+f.setup, "FLEET_SOCKET="+f.socket, fmt.Sprintf("FLEET_RUNS=%d", o.runs))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("the browser: %w", err)
	}
	if err := json.Unmarshal(out, &p); err != nil || len(p.Ready) != o.runs || len(p.Commit) != o.runs {
		return p, fmt.Errorf("the browser's figures cannot be read: %.200s", out)
	}
	return p, nil
}
