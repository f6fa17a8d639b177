package cli

import (
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandHasAnExample: --help of whatever does something shows how.
func TestEveryCommandHasAnExample(t *testing.T) {
	n := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		if c.Runnable() && !c.HasSubCommands() && !c.Hidden {
			n++
			if c.Example == "" {
				t.Errorf("%s has no example", c.CommandPath())
			}
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look((&app{Env: Env{Getenv: func(string) string { return "" }}}).root())
	if n < 50 {
		t.Errorf("%d commands", n)
	}
}
