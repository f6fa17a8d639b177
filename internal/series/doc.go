// Package series keeps what a host has measured over time, in rings of fixed
// length: finely of the last hour, coarsely of the last month. What is oldest is
// overwritten, so that neither memory nor the file grows with time, and the number
// of lines is bounded too. It knows nothing of what the figures mean.
package series
