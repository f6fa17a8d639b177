package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// way is how a program that speaks NBD comes to a volume.
type way interface {
	// open waits until the volume is served by a host, and tells where.
	open(ctx context.Context, h lab.Host) (uri string, err error)
	// gone is a shell command that ends what would wait for that host for ever,
	// once it is lost; it may be empty.
	gone() string
	// close ends what open began.
	close()
}

// socket is the way by a host's own NBD socket.
type socket struct{ v *volume }

func (s socket) open(ctx context.Context, h lab.Host) (string, error) {
	return s.v.uri(h), s.v.served(ctx, h)
}
func (s socket) gone() string { return "" }
func (s socket) close()       {}

// portal is the way by a host's iSCSI portal: the initiator is QEMU's, on
// libiscsi, in a storage daemon that shows the unit over NBD.
type portal struct {
	v         *volume
	target    string
	initiator *daemon
}

// export makes a target of a volume that any initiator may use.
func (v *volume) export(ctx context.Context) (*portal, error) {
	e, err := ask(ctx, v.c, func(ctx context.Context, cl *client.Client) (v1.Export, error) {
		return cl.CreateExport(ctx, v1.ExportSpec{Name: v.name, Units: []v1.UnitSpec{{Volume: v.name}}})
	})
	if err != nil {
		return nil, err
	}
	_, err = ask(ctx, v.c, func(ctx context.Context, cl *client.Client) (v1.Export, error) {
		return cl.AllowInitiator(ctx, v.name, v1.InitiatorSpec{Name: "*"})
	})
	return &portal{v: v, target: e.Target}, err
}

// open logs in, again and again until it is let in.
func (p *portal) open(ctx context.Context, h lab.Host) (uri string, err error) {
	p.close()
	at := p.v.c.path(p.v.name + ".sock")
	uri = "nbd+unix:///?socket=" + at
	err = until(ctx, "volume "+p.v.name+" to be served by the portal of host "+h.Name, func() (bool, string) {
		if p.initiator == nil || p.initiator.ended() != nil {
			said := ""
			if p.initiator != nil {
				said = fmt.Sprint(p.initiator.ended())
			}
			_ = os.Remove(at)
			var err error
			p.initiator, err = startDaemon("qemu-storage-daemon",
				"--blockdev", "driver=iscsi,node-name=unit,transport=tcp,portal="+h.Portal()+",target="+p.target+",lun=0,initiator-name=iqn.2026-11.org.example:judge,discard=unmap",
				"--nbd-server", "addr.type=unix,addr.path="+at, "--export", "type=nbd,id=unit,node-name=unit,name=,writable=on")
			return false, fmt.Sprint(said, " ", err)
		}
		_, err := tool(ctx, "nbdinfo", "--size", uri)
		return err == nil, fmt.Sprint(err)
	})
	return uri, err
}

// gone is for the case that the portal's own host is lost: the initiator has no
// other path, and would try that one for ever.
func (p *portal) gone() string { return fmt.Sprintf("kill -9 %d", p.initiator.cmd.Process.Pid) }

func (p *portal) close() {
	if p.initiator != nil {
		p.initiator.end()
		p.initiator = nil
	}
}

// delete removes the target and its volume.
func (p *portal) delete(ctx context.Context) error {
	p.close()
	_, err := ask(ctx, p.v.c, func(ctx context.Context, cl *client.Client) (struct{}, error) {
		return struct{}{}, cl.DeleteExport(ctx, p.v.name)
	})
	return errors.Join(err, p.v.delete(ctx))
}
