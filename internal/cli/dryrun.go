package cli

import "github.com/spf13/cobra"

// dryCommands are those that can be tried, by their words.
func dryCommands() [][]string {
	return [][]string{
		{"vm", "create"}, {"vm", "set"}, {"vm", "delete"}, {"vm", "disk", "add"}, {"vm", "disk", "remove"}, {"vm", "disk", "resize"},
		{"volume", "create"}, {"volume", "clone"}, {"volume", "grow"}, {"volume", "delete"}, {"image", "delete"},
		{"volume", "revert"}, {"volume", "unsnapshot"}, {"vm", "snapshot", "revert"}, {"vm", "snapshot", "delete"},
		{"disk", "add"}, {"disk", "replace"}, {"export", "allow"}, {"export", "deny"},
		{"backup", "schedule", "create"}, {"backup", "schedule", "set"}, {"backup", "schedule", "delete"}, {"backup", "schedule", "run"},
		{"pool", "create"}, {"pool", "delete"}, {"export", "create"}, {"export", "delete"}, {"host", "remove"}, {"rack", "remove"}, {"oidc", "set"}, {"pages", "set"},
		{"pages", "set-certificate"}, {"pages", "remove-certificate"},
		{"alert", "receiver", "add"}, {"alert", "receiver", "set"}, {"alert", "receiver", "remove"},
	}
}

// addDryRun gives them their flag.
func (a *app) addDryRun(root *cobra.Command) {
	for _, words := range dryCommands() {
		c, rest, err := root.Find(words)
		if err != nil || len(rest) > 0 {
			panic("there is no such command: " + words[len(words)-1]) // a mistake in the table, which every test meets
		}
		c.Flags().BoolVar(&a.dry, "dry-run", false, "only try it: all is checked, placed and answered as it would be, and nothing is changed")
	}
}
