package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

// verify judges what happened, and has every guest verify its whole disk.
func (s *split) verify(ctx context.Context) error {
	in, out := s.victims()
	if err := s.judgeMoves(ctx, in, out); err != nil {
		return err
	}
	s.judgeHolding(in)
	if err := s.judgeMachines(); err != nil {
		return err
	}
	if err := s.judgeWriters(ctx); err != nil {
		return err
	}
	s.say("every guest verifies its whole disk")
	for _, vm := range s.vms {
		if err := s.reset(ctx, vm); err != nil {
			return err
		}
	}
	wrong := s.diary.Wrong()
	s.check(len(wrong) == 0, "nothing acknowledged lost, nothing corrupt, one writer", "%s", told(wrong, "every boot found all that had been flushed before, and no two machines of a VM wrote"))
	return nil
}

func told(wrong []string, good string) string {
	if len(wrong) == 0 {
		return good
	}
	return strings.Join(wrong, "; ")
}

// judgeMoves: what was cut off was taken over once, and nothing else was moved or
// started anew.
func (s *split) judgeMoves(ctx context.Context, in, out []v1.VM) error {
	var wrong []string
	for _, before := range s.vms {
		now, err := s.cloud.vm(ctx, before.ID)
		if err != nil {
			return err
		}
		moved := now.Assigned - before.Assigned
		want := int64(0)
		if before.Rack == s.report.Rack {
			want = 1
		}
		switch {
		case moved != want:
			wrong = append(wrong, fmt.Sprintf("VM %s was assigned %d times, not %d", before.Name, moved, want))
		case want == 1 && now.Rack == s.report.Rack:
			wrong = append(wrong, fmt.Sprintf("VM %s is in the rack that was cut off", before.Name))
		case want == 0 && (now.Machine == nil || now.Machine.PID != before.Machine.PID):
			wrong = append(wrong, fmt.Sprintf("VM %s has another machine than before", before.Name))
		}
	}
	s.check(len(wrong) == 0, "no needless fail-over", "%s", told(wrong, fmt.Sprintf("%d of %d VMs were taken over, once; the machines of the others went on", len(in), len(s.vms))))

	incidents, err := s.cloud.incidents(ctx)
	if err != nil {
		return err
	}
	n := 0
	for _, inc := range incidents {
		if inc.Opened.After(s.zero.Add(-time.Second)) {
			n++
		}
	}
	s.check(n == 1, "one incident", "%d opened since the rack was cut off", n)

	wrong = nil
	worst := 0.0
	for _, vm := range out {
		b, _ := s.diary.On(vm.Name, vm.Host)
		worst = max(worst, b.Pause.Seconds())
		if len(s.diary.Bouts(vm.Name)) != 1 {
			wrong = append(wrong, fmt.Sprintf("the guest of VM %s started anew", vm.Name))
		}
	}
	s.check(len(wrong) == 0, "the other guests went on", "%s", told(wrong, fmt.Sprintf("%d guests, none of which started anew; the longest time one could not write: %.1f s", len(out), worst)))
	return nil
}

// judgeHolding: the cut-off side held its guests in time.
func (s *split) judgeHolding(in []v1.VM) {
	if s.o.Isolation == "leave" {
		return
	}
	worst, n := 0.0, 0
	for _, m := range s.drill.report.Timeline {
		if strings.HasSuffix(m.What, "on the cut-off side") {
			worst = max(worst, m.After)
			n++
		}
	}
	s.check(n == len(in) && worst <= pauseLimit.Seconds(), "the cut-off side held its guests", "%d of %d, the last after %.1f s; %.0f s are allowed", n, len(in), worst, pauseLimit.Seconds())
}

// judgeMachines: each VM has one process in the whole lab.
func (s *split) judgeMachines() error {
	all, err := lab.Machines(s.o.Lab.Hosts)
	if err != nil {
		return err
	}
	var wrong []string
	for _, vm := range s.vms {
		n := len(slices.DeleteFunc(slices.Clone(all), func(m lab.Machine) bool { return m.VM != vm.Name }))
		if n != 1 {
			wrong = append(wrong, fmt.Sprintf("VM %s has %d machines", vm.Name, n))
		}
	}
	s.check(len(wrong) == 0, "one machine per VM", "%s", told(wrong, fmt.Sprintf("%d QEMU processes, %d VMs", len(all), len(s.vms))))
	return nil
}

// judgeWriters: each VM is written, on one host.
func (s *split) judgeWriters(ctx context.Context) error {
	for _, vm := range s.vms {
		at := vm.Host
		if to, ok := s.moved[vm.Name]; ok {
			at = to.Host
		}
		if err := s.writes(ctx, vm.Name, at, s.diary.Flushed(vm.Name)); err != nil {
			return err
		}
		for _, b := range s.diary.Bouts(vm.Name) {
			if b.Host != at && b.LastAt.After(time.Now().Add(-goOnFor)) {
				s.check(false, "one machine writes", "VM %s was written on host %s and is written on host %s", vm.Name, b.Host, at)
			}
		}
	}
	return nil
}

// reset presses a VM's reset button and waits until its guest has verified its
// disk.
func (s *split) reset(ctx context.Context, vm v1.VM) error {
	boots := len(s.diary.Bouts(vm.Name))
	for press := range resetPresses {
		if press > 0 {
			s.say("the reset button showed no effect within %v; it is pressed again", resetPatience)
		}
		if err := s.cloud.resetVM(ctx, vm.ID); err != nil {
			return err
		}
		err := s.cloud.until(ctx, resetPatience, "VM "+vm.Name+" to verify its disk", func(context.Context) (bool, string, error) {
			all := s.diary.Bouts(vm.Name)
			return len(all) > boots && all[len(all)-1].Verified != nil, "it has booted", s.wrong()
		})
		if err == nil || !holdfast.IsKind(err, holdfast.Unavailable) || press == resetPresses-1 || ctx.Err() != nil {
			return err
		}
	}
	return nil
}
