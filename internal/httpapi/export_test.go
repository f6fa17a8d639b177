package httpapi

// Access is the table, for its tests.
var Access = access
