// Package baddays tests what must hold when things go wrong, on the real
// thing: labs of real processes, driven through the command line and the API
// like any cluster, with the probe guest as the witness of what was flushed.
// It has no code of its own outside its tests.
package baddays
