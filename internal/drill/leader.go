package drill

import (
	"context"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// aimTries is how often the leader is made to hand over at most; each time it
// goes to one of the other racks' hosts.
const aimTries = 12

// kvLeader finds the host whose member leads the control plane's votes, by
// asking every host about itself.
func (d *drill) kvLeader(ctx context.Context) (lab.Host, error) {
	var leader lab.Host
	err := d.cloud.until(ctx, backTimeout, "a host to lead the control plane", func(ctx context.Context) (bool, string, error) {
		n := 0
		for _, i := range d.cloud.order() {
			try, cancel := context.WithTimeout(ctx, askTimeout)
			self, err := d.cloud.clients[i].Self(try)
			cancel()
			if err == nil && self.LeadsKV {
				leader = d.cloud.hosts[i]
				n++
			}
		}
		return n == 1, "it is not one host that leads", nil
	})
	return leader, err
}

// aim makes the control plane's leader live in the VM's rack. Machines cannot
// be moved at will, but a leader hands over when its host's process is stopped
// in order, as for an upgrade.
func (d *drill) aim(ctx context.Context, vm v1.VM) error {
	for range aimTries {
		leader, err := d.kvLeader(ctx)
		if err != nil {
			return err
		}
		if leader.Rack == vm.Rack {
			d.say("host %s leads the control plane; its rack will be lost", leader.Name)
			return nil
		}
		d.say("host %s leads the control plane and hands over", leader.Name)
		if err := d.o.Lab.Restart(ctx, d.o.Binary, []lab.Host{leader}); err != nil {
			return err
		}
		if _, err := d.healthy(ctx, vm); err != nil {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Unavailable, "the control plane's leader did not come to rack %s in %d tries; run the drill again", vm.Rack, aimTries)
}

// left returns what VMs and volumes there are, images aside, by name.
func (c *cloud) left(ctx context.Context) ([]string, error) {
	vms, err := c.vms(ctx)
	if err != nil {
		return nil, err
	}
	volumes, err := ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Volume, error) { return k.Volumes(ctx) })
	var names []string
	for _, v := range vms {
		names = append(names, "VM "+v.Name)
	}
	for _, v := range volumes {
		if !v.Image {
			names = append(names, "volume "+v.Name)
		}
	}
	return names, err
}
