package ha_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

var rewrite = flag.Bool("rewrite", false, "write the stories' outcomes into testdata")

// TestStories runs testdata/*.txt. A story is a list of scenes: a command, its
// lines, "----", and what happened, up to an empty line. The commands are
//
//	draw           the lines are sketch lines
//	hold 5s        the brake holds no longer than this
//	agents 1s 5s   from here on hosts start what they are assigned after the
//	               first time, bring copies up to date after the second, and have
//	               guests that are moved shut down after the third
//	leader         a new leader takes over that has watched all along
//	restart        a new leader takes over that has seen nothing
//	run 20s        the lines are carried out, then time goes by
//	status         who runs where
func TestStories(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no stories")
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runStory(t, f) })
	}
}

func runStory(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	st := newStage()
	var out strings.Builder
	for _, s := range scenes(string(text)) {
		got := st.play(s)
		if !*rewrite && got != s.want {
			t.Errorf("%s: %s\ngot:\n%s\nwant:\n%s", file, strings.Join(s.lines, "\n"), got, s.want)
		}
		out.WriteString(s.comment + strings.Join(s.lines, "\n") + "\n----\n" + got + "\n")
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scene is one command with its lines and outcome.
type scene struct {
	comment string
	lines   []string
	want    string
}

func scenes(text string) []scene {
	var out []scene
	var s scene
	inWant := false
	for line := range strings.Lines(text + "\n\n") {
		bare := strings.TrimRight(line, "\n")
		switch {
		case inWant && bare == "":
			out = append(out, s)
			s, inWant = scene{}, false
		case inWant:
			s.want += line
		case bare == "----":
			inWant = true
		case len(s.lines) == 0 && (bare == "" || strings.HasPrefix(bare, "#")):
			s.comment += line
		default:
			s.lines = append(s.lines, bare)
		}
	}
	return out
}

// stage is a cluster with the machines of two hosts that may lead, and with
// imitated agents.
type stage struct {
	c            *sketch.Cluster
	now          time.Duration
	leader       *ha.Machine
	follower     *ha.Machine
	start        time.Duration
	resync       time.Duration
	leave        time.Duration
	leaveAt      map[holdfast.VMID]time.Duration
	startAt      map[holdfast.VMID]time.Duration
	syncAt       map[holdfast.VolumeID]time.Duration
	assigned     map[holdfast.VMID]int64
	told         map[string]int
	mostStarting int
	check        func(before *cluster.State, c ha.Change) // of every change, if set
	out          strings.Builder
}

func newStage() *stage {
	return &stage{c: sketch.New(), leader: ha.New(ha.Config{}), follower: ha.New(ha.Config{}),
		startAt: map[holdfast.VMID]time.Duration{}, leaveAt: map[holdfast.VMID]time.Duration{}, syncAt: map[holdfast.VolumeID]time.Duration{},
		assigned: map[holdfast.VMID]int64{}, told: map[string]int{}}
}

func (st *stage) play(s scene) string {
	st.out.Reset()
	f := strings.Fields(s.lines[0])
	arg := func(i int) time.Duration {
		if i >= len(f) {
			return 0
		}
		d, err := time.ParseDuration(f[i])
		if err != nil {
			fmt.Fprintln(&st.out, err)
		}
		return d
	}
	for _, l := range s.lines[1:] {
		if err := st.c.Do(strings.TrimSpace(l)); err != nil {
			fmt.Fprintln(&st.out, err)
		}
	}
	switch f[0] {
	case "draw":
	case "hold":
		st.leader, st.follower = ha.New(ha.Config{BrakeHold: arg(1)}), ha.New(ha.Config{BrakeHold: arg(1)})
	case "agents":
		st.start, st.resync, st.leave = arg(1), arg(2), arg(3)
	case "leader":
		st.leader, st.follower = st.follower, ha.New(ha.Config{})
	case "restart":
		st.leader, st.follower = ha.New(ha.Config{}), ha.New(ha.Config{})
	case "run":
		st.run(st.now + arg(1))
	case "status":
		st.status()
	default:
		fmt.Fprintf(&st.out, "no such command: %s\n", f[0])
	}
	return st.out.String()
}

// run lets time go by until end: it steps the leader whenever it asks for it
// or something has changed, and commits what it decides.
func (st *stage) run(end time.Duration) {
	for st.now <= end {
		wait := st.settle()
		next := st.agents()
		if wait >= 0 && (next < 0 || wait < next) {
			next = wait
		}
		if next == 0 {
			continue
		}
		if next < 0 || st.now+next > end {
			break
		}
		st.now += next
	}
	st.now = end
}

// settle steps the leader until it wants no change.
func (st *stage) settle() time.Duration {
	for range 1000 {
		s := st.c.State()
		st.follower.Observe(st.now, s)
		changes, wait := st.leader.Step(st.now, sketch.Wall().Add(st.now), s)
		if len(changes) == 0 {
			return wait
		}
		mods := map[string]kv.Rev{}
		for _, c := range changes {
			if !st.commit(c, mods) {
				break
			}
		}
	}
	fmt.Fprintln(&st.out, "the leader does not come to rest")
	return -1
}

func (st *stage) commit(c ha.Change, mods map[string]kv.Rev) bool {
	for i, inc := range c.Incidents {
		if mod, ok := mods[inc.Val.ID]; ok {
			c.Incidents[i].Mod = mod
		}
	}
	if st.check != nil {
		st.check(st.c.State(), c)
	}
	for i, vol := range c.Volumes {
		for j, r := range vol.Val.Others {
			if r.ID.IsZero() {
				c.Volumes[i].Val.Others[j].ID = holdfast.ReplicaID{UUID: holdfast.UUID{1, byte(st.now / time.Second)}}
			}
		}
	}
	rev, err := st.c.Put(c.Volumes, c.VMs, c.Incidents, c.Gone)
	at := fmt.Sprintf("%6.1fs ", st.now.Seconds())
	if err != nil {
		fmt.Fprintf(&st.out, "%s%s: %v\n", at, c.What, err)
		return false
	}
	for _, inc := range c.Incidents {
		mods[inc.Val.ID] = rev
		for _, s := range inc.Val.Steps[st.told[inc.Val.ID]:] {
			fmt.Fprintf(&st.out, "%s| %s: %s\n", at, s.What, s.Text)
		}
		st.told[inc.Val.ID] = len(inc.Val.Steps)
	}
	if c.What != "incident" {
		fmt.Fprintf(&st.out, "%s%s: %s\n", at, c.What, c.Text)
	}
	return true
}

// agents does what the hosts would: start what is assigned, bring copies up
// to date. It returns when there is more to do.
func (st *stage) agents() time.Duration {
	if st.start == 0 {
		return -1
	}
	next := time.Duration(-1)
	due := func(at time.Duration) bool {
		if at <= st.now {
			return true
		}
		if d := at - st.now; next < 0 || d < next {
			next = d
		}
		return false
	}
	v := placement.Look(st.c.State())
	did := false
	perHost := map[holdfast.HostID]int{}
	for _, vm := range v.VMs {
		did = st.agentVM(v, vm, perHost, due) || did
	}
	for _, n := range perHost {
		st.mostStarting = max(st.mostStarting, n)
	}
	for _, vol := range v.Volumes {
		did = st.agentCopies(v, vol, due) || did
	}
	if did {
		return 0
	}
	return next
}

func (st *stage) agentVM(v *placement.View, vm cluster.VM, perHost map[holdfast.HostID]int, due func(time.Duration) bool) bool {
	m, ok := v.State.Machines[vm.ID]
	if v.Up(vm.Host) && st.agentLeave(v, vm, due) {
		return true
	}
	if vm.Power != cluster.On || !v.Up(vm.Host) || vm.Leaving() || ok && m.Val.Generation == vm.Generation && m.Val.Host == vm.Host {
		return false
	}
	if st.assigned[vm.ID] != vm.Generation {
		st.assigned[vm.ID] = vm.Generation
		st.startAt[vm.ID] = st.now + st.start
	}
	perHost[vm.Host]++
	if !due(st.startAt[vm.ID]) {
		return false
	}
	vols, _ := v.VolumesOf(vm)
	for _, vol := range vols {
		st.open(v, vol, vm.Host)
	}
	if err := st.c.Do("machine " + vm.Name + " state=running"); err != nil {
		panic(err)
	}
	return true
}

// agentLeave has guests shut down that are to be moved, and starts again those
// that are to stay after all.
func (st *stage) agentLeave(v *placement.View, vm cluster.VM, due func(time.Duration) bool) bool {
	at, begun := st.leaveAt[vm.ID]
	state := ""
	switch {
	case vm.Leaving() && !begun:
		at = st.now + st.leave
		st.leaveAt[vm.ID] = at
		fallthrough
	case vm.Leaving():
		if placement.IsOff(v.State, vm) || !due(at) {
			return false
		}
		state = "off"
	case begun:
		delete(st.leaveAt, vm.ID)
		if m := v.State.Machines[vm.ID].Val; m.Host != vm.Host || m.Generation != vm.Generation || m.State != "off" {
			return false
		}
		state = "running"
	default:
		return false
	}
	if err := st.c.Do("machine " + vm.Name + " state=" + state); err != nil {
		panic(err)
	}
	return true
}

// open makes a host the writer of a volume at a new epoch; members that do not
// answer leave the in-sync set.
func (st *stage) open(v *placement.View, vol cluster.Volume, host holdfast.HostID) {
	mod := v.State.Volumes[vol.ID].Mod
	vol.Epoch++
	vol.Writer = host
	in := v.InSync(vol)
	for _, r := range vol.InSync {
		if !v.Usable(r) {
			vol.Others = append(slices.Clone(vol.Others), r)
		}
	}
	vol.InSync = in
	if _, err := st.c.Put([]cluster.Versioned[cluster.Volume]{{Mod: mod, Val: vol}}, nil, nil, nil); err != nil {
		panic(err)
	}
}

// agentCopies lets a volume's writer eject what is gone and take in what has
// been brought up to date.
func (st *stage) agentCopies(v *placement.View, vol cluster.Volume, due func(time.Duration) bool) bool {
	if vol.Writer.IsZero() || !v.Up(vol.Writer) {
		return false
	}
	mod := v.State.Volumes[vol.ID].Mod
	i := slices.IndexFunc(vol.Others, v.Usable)
	gone := slices.IndexFunc(vol.InSync, func(r cluster.Replica) bool { return !v.Usable(r) })
	switch {
	case vol.Release != nil && !slices.ContainsFunc(vol.Release.Keep, func(id holdfast.ReplicaID) bool { return !has(vol.InSync, id) }):
		vol.InSync = slices.DeleteFunc(slices.Clone(vol.InSync), func(r cluster.Replica) bool { return slices.Contains(vol.Release.Go, r.ID) })
		vol.Release = nil
		vol.Tidy()
	case gone >= 0 && len(v.InSync(vol)) > 0:
		vol.Others = append(slices.Clone(vol.Others), vol.InSync[gone])
		vol.InSync = slices.Delete(slices.Clone(vol.InSync), gone, gone+1)
	case i < 0:
		delete(st.syncAt, vol.ID)
		return false
	default:
		at, ok := st.syncAt[vol.ID]
		if !ok {
			at = st.now + st.resync
			st.syncAt[vol.ID] = at
		}
		if !due(at) {
			return false
		}
		delete(st.syncAt, vol.ID)
		vol.InSync = append(slices.Clone(vol.InSync), vol.Others[i])
		vol.Others = slices.Delete(slices.Clone(vol.Others), i, i+1)
	}
	if _, err := st.c.Put([]cluster.Versioned[cluster.Volume]{{Mod: mod, Val: vol}}, nil, nil, nil); err != nil {
		panic(err)
	}
	return true
}

func has(list []cluster.Replica, id holdfast.ReplicaID) bool {
	return slices.ContainsFunc(list, func(r cluster.Replica) bool { return r.ID == id })
}

func (st *stage) status() {
	v := placement.Look(st.c.State())
	for _, h := range v.Hosts {
		if p := st.leader.Phase(h.ID); p != ha.Alive {
			fmt.Fprintf(&st.out, "host %s: %s\n", h.Name, p)
		}
	}
	for _, vm := range v.VMs {
		state := string(v.State.Machines[vm.ID].Val.State)
		if v.State.Machines[vm.ID].Val.Generation != vm.Generation || !v.Up(vm.Host) {
			state = "not running"
		}
		host := "no host"
		if !vm.Host.IsZero() {
			host = v.HostName(vm.Host)
		}
		fmt.Fprintf(&st.out, "vm %s: %s on %s\n", vm.Name, state, host)
	}
	for _, vol := range v.Volumes {
		fmt.Fprintf(&st.out, "volume %s: epoch %d, in sync %s, others %s\n", vol.Name, vol.Epoch, names(v, vol.InSync), names(v, vol.Others))
	}
	if st.mostStarting > 0 {
		fmt.Fprintf(&st.out, "most at once starting on one host: %d\n", st.mostStarting)
	}
	fmt.Fprintln(&st.out, placement.CanLose(st.c.State()).Sentence)
}

func names(v *placement.View, rs []cluster.Replica) string {
	var out []string
	for _, r := range rs {
		name := v.HostName(r.Host)
		if path := v.State.Disks[r.Disk].Val.Path; path != "disk0" {
			name += "/" + path
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, " ")
}
