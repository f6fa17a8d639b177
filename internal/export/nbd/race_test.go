//go:build race

package nbd

// raced: under the race detector sync.Pool drops buffers on purpose.
const raced = true
