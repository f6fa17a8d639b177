package lab

import (
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

// assign gives the hosts the addresses 127.L.R.H of a network L in which every
// port they need is free. L starts at a number made from the directory, so
// that a lab tends to keep its addresses and two labs tend to differ. A network that
// another lab has is left to that, be its hosts up or not.
func (l *Lab) assign() error {
	taken, done, err := openTaken()
	if err != nil {
		return err
	}
	defer done()
	h := fnv.New32a()
	h.Write([]byte(l.Dir))
	var why error
	for i := range 200 {
		l.Net = 20 + (int(h.Sum32()%200)+i)%200
		if dir := taken.by(l.Net); dir != "" && dir != l.Dir {
			why = fmt.Errorf("127.%d is of the lab in %s", l.Net, dir)
			continue
		}
		l.number()
		if why = l.bindable(); why == nil {
			return taken.take(l.Net, l.Dir)
		}
	}
	return holdfast.Errorf(holdfast.Unavailable, "no free loopback network 127.L was found for the lab, the last try said: %w; take another lab down, or check that this system answers to all of 127.0.0.0/8", why)
}

func (l *Lab) number() {
	var racks []string
	for i := range l.Hosts {
		h := &l.Hosts[i]
		if !slices.Contains(racks, h.Rack) {
			racks = append(racks, h.Rack)
		}
		n, err := strconv.Atoi(h.Name[len(h.Rack):])
		if err != nil {
			n = i + 1
		}
		h.Addr = fmt.Sprintf("127.%d.%d.%d", l.Net, len(racks), n)
	}
}

// bindable tries all ports of all hosts at once.
func (l *Lab) bindable() error {
	for _, h := range l.Hosts {
		for _, port := range []int{config.PortAPI, config.PortTransport, config.PortEtcdPeer, config.PortEtcdClient, config.PortISCSI} {
			ls, err := net.Listen("tcp", net.JoinHostPort(h.Addr, strconv.Itoa(port)))
			if err != nil {
				return err
			}
			ls.Close()
		}
	}
	return nil
}
