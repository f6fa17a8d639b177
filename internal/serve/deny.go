package serve

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// lookupTimeout bounds the resolution of one host's name.
const lookupTimeout = 2 * time.Second

// denyHosts keeps guests from the listeners of every host of the cluster,
// whichever addresses these have now. It returns what it acted upon, for the
// next call to compare with.
func (h *Host) denyHosts(st *cluster.State, was string) string {
	var addrs []string
	for _, host := range st.SortedHosts() {
		addrs = append(addrs, hostsOf(host.Val.Addr, host.Val.APIAddr, host.Val.Peer, host.Val.Client)...)
	}
	now := strings.Join(addrs, " ")
	if now == was || len(addrs) == 0 {
		return was
	}
	if err := h.hyper.SetDeny(prefixes(addrs)); err != nil {
		h.log.Error("guests could not be kept from the hosts' addresses", "error", err)
		return was
	}
	return now
}

// prefixes returns the addresses that names or addresses stand for. A name that
// cannot be resolved here cannot be reached by a guest of this host by name
// either; it is tried again when the hosts change.
func prefixes(hosts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range hosts {
		ips, err := []netip.Addr(nil), error(nil)
		if ip, perr := netip.ParseAddr(s); perr == nil {
			ips = []netip.Addr{ip}
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
			ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", s)
			cancel()
		}
		if err != nil {
			continue
		}
		for _, ip := range ips {
			ip = ip.Unmap()
			if p := netip.PrefixFrom(ip, ip.BitLen()); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}
