package main

import (
	"context"
	"fmt"
	"os"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// volume is one of two copies, that every host exports.
type volume struct {
	c    *court
	name string
	id   string
	size int64
}

// volume makes one and waits until every host exports it.
func (c *court) volume(ctx context.Context, name string, size int64, durability string) (*volume, error) {
	rec, err := ask(ctx, c, func(ctx context.Context, cl *client.Client) (v1.Volume, error) {
		return cl.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: size, Copies: 2, Durability: durability})
	})
	if err != nil {
		return nil, err
	}
	v := &volume{c, name, rec.ID, size}
	for _, h := range c.l.Hosts {
		err := until(ctx, "volume "+name+" to be exported on host "+h.Name, func() (bool, string) {
			_, err := os.Stat(v.socket(h))
			return err == nil, fmt.Sprint(err)
		})
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// delete removes it, so that the next judge has room.
func (v *volume) delete(ctx context.Context) error {
	_, err := ask(ctx, v.c, func(ctx context.Context, cl *client.Client) (struct{}, error) {
		return struct{}{}, cl.DeleteVolume(ctx, v.name)
	})
	return err
}

func (v *volume) socket(h lab.Host) string { return h.Export(v.id) }

// uri is the volume at a host's own socket, in the words of the NBD project.
func (v *volume) uri(h lab.Host) string { return "nbd+unix:///?socket=" + v.socket(h) }

// tls is the volume at a host's address, for who has the certificates of dir.
func (v *volume) tls(h lab.Host, dir string) string {
	return fmt.Sprintf("nbds://%s:%d/%s?tls-certificates=%s", h.Addr, portNBD, v.name, dir)
}

func (v *volume) record(ctx context.Context) (v1.Volume, error) {
	return ask(ctx, v.c, func(ctx context.Context, cl *client.Client) (v1.Volume, error) { return cl.Volume(ctx, v.name) })
}

// served waits until a host lets initiators in, and makes it or another one
// the writer by that.
func (v *volume) served(ctx context.Context, h lab.Host) error {
	return until(ctx, "volume "+v.name+" to be served by host "+h.Name, func() (bool, string) {
		_, err := tool(ctx, "nbdinfo", "--size", v.uri(h))
		return err == nil, fmt.Sprint(err)
	})
}

// writer returns the host that orders its writes now.
func (v *volume) writer(ctx context.Context) (lab.Host, error) {
	var h lab.Host
	err := until(ctx, "volume "+v.name+" to have a writer", func() (bool, string) {
		rec, err := v.record(ctx)
		var ok bool
		h, ok = v.c.host(rec.Writer)
		return ok, fmt.Sprint(rec.Writer, " ", err)
	})
	return h, err
}

// written waits until something more has been written to it.
func (v *volume) written(ctx context.Context) error {
	first := int64(-1)
	return until(ctx, "something to be written to volume "+v.name, func() (bool, string) {
		a, err := ask(ctx, v.c, func(ctx context.Context, cl *client.Client) (v1.Activity, error) { return cl.Activity(ctx, v.name) })
		if err != nil {
			return false, err.Error()
		}
		if first < 0 {
			first = a.WrittenBytes
		}
		return a.WrittenBytes != first, "nothing is"
	})
}

// bystander returns a host that has no copy of it: initiators there are
// carried to the writer.
func (v *volume) bystander(ctx context.Context) (lab.Host, error) {
	rec, err := v.record(ctx)
	if err != nil {
		return lab.Host{}, err
	}
	var not []string
	for _, r := range rec.Replicas {
		not = append(not, r.Host)
	}
	return v.c.other(not...), nil
}
