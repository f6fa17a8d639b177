// Package guestnet is a machine's network, outside QEMU: a process of the same
// binary that is switch, gateway, DHCP and DNS server for one guest, with a
// TCP/IP stack of its own (gVisor's). The guest sees a private network,
//
//	10.0.2.0/24    gateway and DNS 10.0.2.2, guest 10.0.2.15 (by DHCP)
//
// and reaches the outside by TCP and UDP over IPv4, as a client: the process
// opens ordinary sockets for it, but never to an address of this computer, to
// loopback, link-local or multicast addresses, or to the networks that the
// configuration denies (the cluster's hosts). So a guest reaches no listener
// of any host. Nothing from outside reaches the guest but what its agent dials.
//
// The process outlives the agent as QEMU does, and ends with its machine.
//
// Ethernet frames travel over QEMU's `-netdev stream` socket, each after its
// length (32 bits, big endian). To dial the guest, the agent connects to the
// process's own socket and sends "PORT\n"; the answer is "ok\n", after which
// the connection is the guest's, or "error TEXT\n". To "count\n" the answer is
// "ok RECEIVED SENT\n", the bytes of the guest's frames so far.
package guestnet
