package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/disk/recorder"
	sealing "github.com/holdfast-cloud/holdfast/internal/seal"
)

// sealers are those of the volumes whose blocks are compressed and encrypted for
// real: of every third one.
var sealers = func() map[holdfast.VolumeID]*sealing.Sealer {
	out := map[holdfast.VolumeID]*sealing.Sealer{}
	for n := byte(3); n < 250; n += 6 {
		id := volumeID(n)
		key := sha256.Sum256(id.UUID[:])
		x, err := sealing.New(sealing.Options{Volume: id, Compression: sealing.Auto, Key: &key, Salt: 7})
		if err != nil {
			panic(err)
		}
		out[id] = x
	}
	return out
}()

func sealerOf(vol holdfast.VolumeID) *sealing.Sealer { return sealers[vol] }

const realDisk = filedisk.MinSize

// lagOfRecords has several writes under way when a sync comes.
var lagOfRecords = recorder.Lag{Write: 30 * time.Microsecond, Sync: 400 * time.Microsecond}

func realOptions() Options {
	return Options{SegmentBytes: testSegment, CheckpointBytes: 600 << 10, MapMemory: 4 * blockmap.LeafBytes}
}

// short is a disk that says it is so small that the cleaner has to work.
type short struct{ *filedisk.Disk }

const shortDisk = 12 << 20

func (d short) Geometry() disk.Geometry {
	g := d.Disk.Geometry()
	g.Size = shortDisk
	return g
}

// onFile is a fuzzer whose disk is a real file, with a recorder in front.
func onFile(t *testing.T, seed uint64, path string) (*fuzzer, func() *recorder.Disk) {
	t.Helper()
	var rec *recorder.Disk
	b := &bed{t: t, w: simclock.NewWorld(seed), opts: realOptions()}
	b.d = memdisk.New(testSegment, b.w.Rand("disk")) // not used
	b.real = func() (disk.Device, error) {
		dev, err := filedisk.Open(path, filedisk.Options{})
		if err != nil {
			return nil, err
		}
		rec = recorder.New(short{dev}, b.host, lagOfRecords)
		return rec, nil
	}
	return &fuzzer{bed: b, rng: b.w.Rand("fuzzer")}, func() *recorder.Disk { return rec }
}

// known is what the model knows at a mark: what must be there after a crash, and
// what may.
type known struct {
	vols []*model
	made *model
}

func copyModel(m *model, b *bed) *model {
	if m == nil {
		return nil
	}
	c := *m
	c.vol = &vol{b, m.id, m.vid}
	c.recs = slices.Clip(m.recs)
	if m.pending != nil {
		p := *m.pending
		c.pending = &p
	}
	return &c
}

func (k known) copyTo(f *fuzzer) {
	for _, m := range k.vols {
		f.vols = append(f.vols, copyModel(m, f.bed))
	}
	f.made = copyModel(k.made, f.bed)
}

// recording is a history that was played on a real file.
type recording struct {
	seed uint64
	log  []recorder.Event
	base []byte // of the disk before it
	ops  map[string]int

	cleaned int64 // bytes that the cleaner moved
}

// recordHistory plays a history of so many steps.
func recordHistory(t *testing.T, seed uint64, steps int) *recording {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := filedisk.Create(path, realDisk); err != nil {
		t.Fatal(err)
	}
	f, rec := onFile(t, seed, path)
	f.found()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{seed: seed, base: whole[:shortDisk:shortDisk], ops: map[string]int{}}
	// What opening did is on the disk already, and begins no history.
	was := len(rec().Log())
	f.mark = func() {
		var k known
		k.vols, k.made = nil, copyModel(f.made, f.bed)
		for _, m := range f.vols {
			k.vols = append(k.vols, copyModel(m, f.bed))
		}
		rec().Mark(k)
	}
	f.mark()
	for range steps {
		f.calmStep()
		f.mark()
	}
	r.cleaned = f.s.Usage().Cleaned
	r.log = rec().Log()[was:]
	for i := range r.log { // numbers from its own beginning
		if r.log[i].Kind == recorder.End {
			r.log[i].Of -= was
		}
	}
	for _, l := range f.log { // so that a report says what was played
		name, _, _ := strings.Cut(l, " ")
		if _, rest, ok := strings.Cut(l, " kind "); ok {
			name = []string{"", "write", "trim", "epoch", "snapshot", "revert", "drop-snapshot", "grow"}[min(int(rest[0]-'0'), 7)]
		}
		r.ops[name]++
	}
	f.run(f.s.Close)
	f.host.Kill()
	return r
}

// calmStep is a step of the fuzzer without a crash: of everything that it does the
// kinds that write much, with the cleaner at work.
func (f *fuzzer) calmStep() {
	m := f.pick()
	switch k := f.rng.IntN(100); {
	case m == nil || k < 5 && len(f.vols) < 4:
		f.create(false)
	case k < 10 && len(f.vols) < 5:
		f.cloneOf(m, false)
	case k < 12:
		f.remove(m, false)
	case k < 50:
		f.append(m)
	case k < 64:
		l := m.last()
		f.note("sync")
		if f.during(false, func() error { return syncTo(m.r(), l) }) {
			m.synced = max(m.synced, l)
		}
	case k < 74:
		m.stable = max(m.stable, m.synced)
		f.note("stable")
		m.r().SetStable(m.synced)
	case k < 80:
		f.begin(m, false)
	case k < 86:
		f.note("checkpoint")
		f.during(false, f.s.Checkpoint)
	case k < 90:
		f.note("truncate")
		f.truncate(m)
	case k < 94:
		f.w.Run(f.w.Now() + time.Duration(f.rng.IntN(3000))*time.Millisecond)
	default:
		f.rebuild(m, false)
	}
}

// truncate goes back to some LSN of the last epoch above stable, as a replica does
// that returns.
func (f *fuzzer) truncate(m *model) {
	if m.stable >= m.last() || m.last().Epoch() != m.stable.Epoch() {
		return
	}
	cut := m.stable + holdfast.LSN(f.rng.Uint64N(uint64(m.last()-m.stable)))
	m.synced = min(m.synced, cut)
	if f.during(false, func() error { return m.r().Truncate(now(m.r()), cut) }) {
		m.cut(cut)
		m.synced = min(m.last(), cut)
	}
}

// historySteps are enough for a disk to be filled and cleaned.
const historySteps = 350

// figures of a campaign.
type figures struct {
	Commit     string         `json:"commit"`
	When       string         `json:"when"`
	Histories  int            `json:"histories"`
	Points     int            `json:"points"`
	Boundaries int            `json:"at_flush_boundaries"`
	Between    int            `json:"between"`
	Torn       int            `json:"with_torn_writes"`
	Twice      int            `json:"crashed_again_while_recovering"`
	WentOn     int            `json:"went_on_and_emptied"`
	Recorded   int            `json:"writes_recorded"`
	Bytes      int64          `json:"bytes_recorded"`
	Cleaned    int64          `json:"bytes_cleaned"`
	Operations map[string]int `json:"operations"`
	Findings   []string       `json:"findings"`
	Seconds    float64        `json:"seconds"`
}

// replayer opens what crashes leave, in a file.
type replayer struct {
	t    *testing.T
	rec  *recording
	path string
	file *os.File
	rng  *rand.Rand
	fig  *figures
	last known
}

// play visits points of a recording: with every so many flush boundaries, and as
// many moments between.
func (r *recording) play(t *testing.T, every int, fig *figures) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(realDisk); err != nil {
		t.Fatal(err)
	}
	x := &replayer{t: t, rec: r, path: path, file: file, rng: rand.New(rand.NewPCG(r.seed, 5)), fig: fig}
	p := recorder.NewPlayer(r.log, r.base)
	x.put(nonZero(p.Base), p.Base)
	n := 0
	for e, ok := p.Event(); ok; e, ok = p.Event() {
		boundary := p.Boundary(e)
		if e.Kind == recorder.Mark {
			x.last = e.Note.(known)
		}
		x.put(p.Step(), p.Base)
		switch {
		case e.Data != nil:
			fig.Recorded++
			fig.Bytes += e.N
		case boundary:
			if n++; (n+int(r.seed))%every == 0 {
				fig.Boundaries++
				x.point(p, []recorder.Fate{recorder.Lost, recorder.Some}[x.rng.IntN(2)])
			}
		}
		if e.Kind != recorder.Mark && !boundary && p.Pending() > 0 && x.rng.IntN(6*every) == 0 {
			fig.Between++
			x.point(p, recorder.Fate(x.rng.IntN(int(recorder.Fates))))
		}
	}
	fig.Histories++
	fig.Cleaned += r.cleaned
	for k, v := range r.ops {
		fig.Operations[k] += v
	}
}

func nonZero(b []byte) (units []int64) {
	zero := make([]byte, recorder.Unit)
	for i := 0; i < len(b); i += recorder.Unit {
		if string(b[i:i+recorder.Unit]) != string(zero) {
			units = append(units, int64(i/recorder.Unit))
		}
	}
	return units
}

// put writes units of a base into the file, neighbours at once.
func (x *replayer) put(units []int64, base []byte) {
	slices.Sort(units)
	for i := 0; i < len(units); {
		k := i + 1
		for k < len(units) && units[k] == units[k-1]+1 {
			k++
		}
		off := units[i] * recorder.Unit
		if _, err := x.file.WriteAt(base[off:(units[k-1]+1)*recorder.Unit], off); err != nil {
			x.t.Fatal(err)
		}
		i = k
	}
}

func (x *replayer) patch(units map[int64][]byte) (places []int64) {
	for at, u := range units {
		places = append(places, at)
		if _, err := x.file.WriteAt(u, at*recorder.Unit); err != nil {
			x.t.Fatal(err)
		}
	}
	return places
}

// point opens what a crash leaves now and checks it, and puts the file back.
func (x *replayer) point(p *recorder.Player, fate recorder.Fate) {
	x.t.Helper()
	x.fig.Points++
	if fate >= recorder.Torn4K && p.Pending() > 0 {
		x.fig.Torn++
	}
	touched := x.patch(p.Crash(fate, x.rng))
	say := fmt.Sprintf("history %d, point %d (fate %d)", x.rec.seed, x.fig.Points, fate)
	var log []recorder.Event
	if x.rng.IntN(6) == 0 {
		x.fig.Twice++
		touched = append(touched, x.again(say)...)
		say += ", crashed again while recovering"
	}
	log = x.recover(say, x.rng.IntN(8) == 0)
	x.put(slices.Compact(slices.Sorted(slices.Values(append(touched, x.ranges(log)...)))), p.Base)
}

// again recovers and crashes meanwhile; it returns what may be different in the
// file.
func (x *replayer) again(say string) []int64 {
	x.t.Helper()
	whole := make([]byte, shortDisk)
	if _, err := x.file.ReadAt(whole, 0); err != nil {
		x.t.Fatal(err)
	}
	log := x.recover(say, false)
	touched := x.ranges(log)
	x.put(touched, whole)
	p := recorder.NewPlayer(log, whole)
	for range x.rng.IntN(len(log)) {
		x.put(p.Step(), p.Base)
	}
	x.patch(p.Crash(recorder.Fate(x.rng.IntN(int(recorder.Fates))), x.rng))
	return touched
}

// ranges are the units that a record writes.
func (x *replayer) ranges(log []recorder.Event) (units []int64) {
	for _, e := range log {
		if e.Kind != recorder.End && e.Kind != recorder.Mark {
			for i := int64(0); i < e.N; i += recorder.Unit {
				units = append(units, (e.Off+i)/recorder.Unit)
			}
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// recover opens the file as a real disk and checks all that must be there, and
// nothing else; with on the store goes on after that, and is emptied. It returns
// what was written meanwhile.
func (x *replayer) recover(say string, on bool) []recorder.Event {
	x.t.Helper()
	ok := false
	defer func() {
		if !ok {
			x.t.Logf("%s", say)
			x.fig.Findings = append(x.fig.Findings, say)
		}
	}()
	f, rec := onFile(x.t, x.rec.seed+uint64(x.fig.Points), x.path)
	x.last.copyTo(f)
	f.ids, f.tag = 200, 1<<40
	f.boot()
	f.open()
	f.recovered()
	if c := f.made; c != nil {
		if r := f.s.Replica(c.id); r != nil {
			if st := r.State(); st.Damage != "" {
				f.fail("%v, which was being built, is damaged: %s", c.id.Short(), st.Damage)
			} else if !st.Building && st.Prefix == c.at && c.at != 0 {
				c.check(f)
			}
		}
	}
	if err := f.s.checkSpace(); err != nil {
		f.fail("%v", err)
	}
	if on {
		x.fig.WentOn++
		for range 6 {
			f.calmStep()
		}
		f.finishAll()
		if err := f.s.checkSpace(); err != nil {
			f.fail("%v", err)
		}
	}
	log := rec().Log()
	f.w.Close(f.host)
	rec().Close()
	ok = true
	return log
}

// finishAll removes everything, what the model does not know included; then nothing
// may be live.
func (f *fuzzer) finishAll() {
	f.t.Helper()
	for _, m := range f.vols {
		m.check(f)
	}
	for _, r := range f.s.Replicas() {
		f.run(func() error { return f.s.Remove(r.id) })
	}
	f.vols = nil
	f.finish()
}

// TestCrashPoints replays recorded histories at flush boundaries and between: a few
// points of one, or CRASH_POINTS of as many histories as that takes, whose figures
// go to CRASH_FIGURES.
func TestCrashPoints(t *testing.T) {
	goal, every := 30, 20
	if v, err := strconv.Atoi(os.Getenv("CRASH_POINTS")); err == nil {
		goal, every = v, 2
	}
	first := uint64(1)
	if v, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		first = v
	}
	began := time.Now()
	fig := &figures{Operations: map[string]int{}, Findings: []string{}}
	for seed := first; fig.Points < goal; seed++ {
		ok := t.Run(fmt.Sprint("history", seed), func(t *testing.T) { recordHistory(t, seed, historySteps).play(t, every, fig) })
		if !ok {
			break
		}
	}
	fig.Seconds = time.Since(began).Round(time.Second / 10).Seconds()
	fig.When = began.UTC().Format(time.DateOnly)
	out, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	fig.Commit = strings.TrimSpace(string(out))
	text, err := json.MarshalIndent(fig, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if path := os.Getenv("CRASH_FIGURES"); path != "" {
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
