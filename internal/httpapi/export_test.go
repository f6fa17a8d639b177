package httpapi

// Access is the table, for its tests.
var Access = access

// DryRuns are the operations that can be tried.
var DryRuns = dryRuns
