package main

// cell is one way of using a disk, measured on every candidate that can.
type cell struct {
	name    string
	args    []string // of fio
	clients bool     // eight clients at once, each with a disk of its own
	durable bool     // at the volume's own interface, not over NBD
	halves  bool     // data that S2 makes half as long; one volume sealed and compressed beside one that is neither
}

// halving is the cell of compression and encryption.
const halving = "1 MiB write that halves, 4"

// The reads come first: they find what was read before in the page cache,
// whatever the writes do to it.
var cells = [...]cell{
	{name: "random read, 1", args: []string{"--rw=randread", "--bs=4k", "--iodepth=1"}},
	{name: "random read, 32", args: []string{"--rw=randread", "--bs=4k", "--iodepth=32"}},
	{name: "1 MiB read, 4", args: []string{"--rw=read", "--bs=1m", "--iodepth=4"}},
	{name: "random write, 32", args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=32"}},
	{name: "1 MiB write, 4", args: []string{"--rw=write", "--bs=1m", "--iodepth=4"}},
	{name: "write+flush, 1", args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"}},
	{name: "write+flush, 8 clients", args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fsync=1"}, clients: true},
	{name: halving, args: []string{"--rw=write", "--bs=1m", "--iodepth=4", "--buffer_compress_percentage=50"}, halves: true},
	{name: "durable write, 64", args: []string{"--rw=randwrite", "--bs=4k", "--iodepth=1", "--fdatasync=1"}, durable: true},
}

// goal is the least ratio that a candidate should have to its base in a cell:
// first that of the first version, then that of the block store at full
// strength; 0: none.
type goal struct{ first, full float64 }

func goalsOfOne() map[string]goal {
	return map[string]goal{
		"random read, 1":         {0, 2},
		"random read, 32":        {0.7, 1.2},
		"random write, 32":       {0.7, 2},
		"write+flush, 1":         {0.7, 1.5},
		"write+flush, 8 clients": {0, 2},
		"1 MiB read, 4":          {0, 0.8},
		"1 MiB write, 4":         {0, 0.5},
	}
}

// goalsOfTwo also has what Ceph RBD and longhorn-engine with two copies did beside
// nbdkit on another machine of two cores, times what is wanted of us: their
// operations per second there by nbdkit's there.
func goalsOfTwo() map[string]goal {
	return map[string]goal{
		"random read, 32":  {0, 5 * 10.9 / 82},
		"random write, 32": {0.5, 3 * 6.9 / 27},
		"write+flush, 1":   {0.4, 5 * 0.55 / 2.7},
	}
}

// goalsOfSealed is for a volume whose blocks are compressed and encrypted,
// beside one whose are neither.
func goalsOfSealed() map[string]goal { return map[string]goal{halving: {0, 0.4}} }

// goalsOfAlways is for volumes whose every write is durable on both copies.
func goalsOfAlways() map[string]goal {
	return map[string]goal{"random write, 32": {0, 6 * 2.0 / 27}}
}
