// Package upgrade plans how the hosts of a cluster get another program: which
// rack after which, what keeps running, what is briefly not there, and why not
// now. It is pure and reads the same pictures as the planners; the files
// themselves are internal/program's.
package upgrade
