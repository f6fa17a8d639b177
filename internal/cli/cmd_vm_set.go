package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// vmSetFlags are the flags of `holdfast vm set` as they were given.
type vmSetFlags struct {
	name, priority, isolation, userData, kernel, initrd, line, cdrom string
	cpus                                                             int
	memory                                                           sizeFlag
	publish, keyFiles, boot                                          []string
}

func (a *app) vmSetCmd() *cobra.Command {
	var f vmSetFlags
	c := &cobra.Command{Use: "set VM", Short: "Change a VM", Args: args("VM"),
		Long: `Change a VM. What is not given stays as it is. Its name, published ports, restart
order, what is done with it when its host is cut off and what lies in its CD-ROM
drive change at once. A machine that runs keeps its processors, memory, user data,
keys, kernel and boot order until it is stopped and started: 'holdfast vm show'
says what is pending.

Lists are given whole: --publish and --ssh-key replace what was there, and
--publish none or --ssh-key none leaves nothing.`,
		Example: "  holdfast vm set db1 --cpus 4 --memory 8GiB\n  holdfast vm set db1 --name orders --priority high\n  holdfast vm set web --publish 8080:80 --publish 8443:443\n  holdfast vm set web --publish none\n  holdfast vm set db1 --cdrom debian-iso --boot cdrom,disk\n  holdfast vm set db1 --cdrom none"}
	c.RunE = a.with(func(ctx context.Context, cl *client.Client, args []string) error {
		s, err := f.change(c.Flags().Changed)
		if err != nil {
			return err
		}
		v, err := cl.ChangeVM(ctx, args[0], s)
		if err != nil {
			return err
		}
		if !a.forPeople() {
			return printOne(a, v, vmColumns(), vmName)
		}
		lines := []string{"VM " + v.Name + " is changed."}
		for _, p := range v.Pending {
			lines = append(lines, "When it is stopped and started: "+p+".")
		}
		return a.planned(lines...)
	})
	fl := c.Flags()
	fl.StringVar(&f.name, "name", "", "another `name`; its disk keeps the one it has")
	fl.IntVar(&f.cpus, "cpus", 0, "virtual processors")
	fl.Var(&f.memory, "memory", "memory")
	fl.StringVar(&f.priority, "priority", "", "low, normal or high: the order of restart")
	fl.StringVar(&f.isolation, "isolation", "", "pause, off or leave: what a host that is cut off does with it")
	fl.StringArrayVar(&f.publish, "publish", nil, "`[ADDR:]PORT:GUESTPORT[/tcp]`: answer on every host for the guest's port; or none")
	fl.StringVar(&f.userData, "user-data", "", "`file` with cloud-init user data; empty: none")
	fl.StringArrayVar(&f.keyFiles, "ssh-key", nil, "`file` with public ssh keys; or none")
	fl.StringVar(&f.kernel, "kernel", "", "direct boot: `image` that holds the kernel; empty: boot from the disk")
	fl.StringVar(&f.initrd, "initrd", "", "direct boot: `image` that holds the initrd")
	fl.StringVar(&f.line, "append", "", "direct boot: kernel command `line`")
	fl.StringVar(&f.cdrom, "cdrom", "", "`image` that lies in its CD-ROM drive; or none")
	fl.StringSliceVar(&f.boot, "boot", nil, "what it is started from, in the `order` in which it is tried: disk, cdrom")
	return c
}

// change is what the flags that were given ask for.
func (f *vmSetFlags) change(given func(string) bool) (s v1.VMSet, err error) {
	for name, to := range map[string]struct {
		at **string
		v  *string
	}{
		"name": {&s.Name, &f.name}, "priority": {&s.Priority, &f.priority}, "isolation": {&s.Isolation, &f.isolation},
		"kernel": {&s.Kernel, &f.kernel}, "initrd": {&s.Initrd, &f.initrd}, "append": {&s.Append, &f.line},
	} {
		if given(name) {
			*to.at = to.v
		}
	}
	if given("cpus") {
		s.CPUs = &f.cpus
	}
	if given("memory") {
		mib := mebibytes(f.memory)
		s.MemoryMiB = &mib
	}
	if given("cdrom") {
		if f.cdrom == "none" {
			f.cdrom = ""
		}
		s.CDROM = &f.cdrom
	}
	if given("boot") {
		order := append([]string{}, f.boot...)
		s.Boot = &order
	}
	if given("user-data") {
		text, err := readUserData(f.userData)
		if err != nil {
			return s, err
		}
		s.UserData = &text
	}
	if given("publish") {
		list, err := parsePublish(unlessNone(f.publish))
		if err != nil {
			return s, err
		}
		list = append([]v1.Publish{}, list...)
		s.Publish = &list
	}
	if given("ssh-key") {
		keys, err := readKeys(unlessNone(f.keyFiles))
		if err != nil {
			return s, err
		}
		keys = append([]string{}, keys...)
		s.SSHKeys = &keys
	}
	if s == (v1.VMSet{}) {
		return s, usageError{fmt.Errorf("say what is to be changed of the VM")}
	}
	return s, nil
}

// unlessNone is a list, or nothing if it says "none".
func unlessNone(list []string) []string {
	if len(list) == 1 && list[0] == "none" {
		return nil
	}
	return list
}

// mebibytes rounds up.
func mebibytes(n sizeFlag) int { return int((int64(n) + 1<<20 - 1) >> 20) }
