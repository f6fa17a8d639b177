package fleet

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of a fleet: far above what one control plane is built for.
const (
	maxHosts = 1000
	maxVMs   = 10000
)

// DefaultListen is where a fleet answers if nobody says otherwise.
const DefaultListen = "127.0.0.1:7480"

// Options choose a fleet.
type Options struct {
	Hosts, Racks, VMs int
	Listen            string // of the API and the pages, host:port; port 0: any
	Seed              uint64 // of its names, sizes and places
	Still             bool   // nothing happens by itself
	Version           string
	Log               *slog.Logger // nil: nowhere
	Out               io.Writer    // where it says how it is reached; nil: nowhere
}

// Check refuses what cannot be had; kind Invalid.
func (o *Options) Check() error {
	switch {
	case o.Hosts < 1 || o.Hosts > maxHosts:
		return holdfast.Errorf(holdfast.Invalid, "sim: --hosts %d: 1 to %d are allowed", o.Hosts, maxHosts)
	case o.Racks < 1 || o.Racks > o.Hosts:
		return holdfast.Errorf(holdfast.Invalid, "sim: --racks %d: 1 to %d are allowed, as each of the racks has at least one of the %d hosts", o.Racks, o.Hosts, o.Hosts)
	case o.VMs < 0 || o.VMs > maxVMs:
		return holdfast.Errorf(holdfast.Invalid, "sim: --vms %d: 0 to %d are allowed", o.VMs, maxVMs)
	case o.VMs > vmsPerHost*o.Hosts:
		return holdfast.Errorf(holdfast.Invalid, "sim: --vms %d: there is room for %d on %d hosts; give more --hosts", o.VMs, vmsPerHost*o.Hosts, o.Hosts)
	}
	return checkListen(o.Listen)
}

func checkListen(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && net.ParseIP(host) == nil {
		err = fmt.Errorf("%q is no address", host)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.Invalid, "sim: --listen %.60q: give an address and a port, such as %s: %w", addr, DefaultListen, err)
	}
	return nil
}
