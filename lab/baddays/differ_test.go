package baddays

import (
	"crypto/rand"
	"log/slog"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/lab"
)

// copiesDiffer: while a host is down its disk is made to hold another write, well
// formed, at the place in the volume's order where the others then get theirs. No
// resync sees that; a comparison does, and the copy is built anew by what the
// other two say.
func copiesDiffer(s *scene) {
	a := s.host("a1")
	s.done(a, nil, "volume", "create", "torn", "--size", "16MiB", "--copies", "3")
	s.inSync("torn")
	if out := s.done(a, nil, "volume", "verify", "torn"); !strings.Contains(out, "equal") {
		s.t.Errorf("before anything is wrong: %s", out)
	}
	victim := s.differ(a, "torn")
	out, code := s.run(a, nil, "volume", "verify", "torn")
	if code != 1 || !strings.Contains(out, strings.ToUpper(victim.Name)) {
		s.t.Errorf("the copies differ: exit status %d, %s", code, out)
	}
	if said := s.done(a, nil, "status"); !strings.Contains(said, "copies of volume torn differ") {
		s.t.Errorf("nobody is told that they differ: %s", said)
	}
	s.t.Logf("a write was put in another's place on %s:\n%s", victim.Name, out)
	s.done(a, nil, "volume", "verify", "torn", "--repair")
	s.done(a, nil, "volume", "verify", "torn") // those that are left are equal
	if said := s.done(a, nil, "status"); strings.Contains(said, "copies of volume torn differ") {
		s.t.Errorf("it is told that they differ when they do not: %s", said)
	}
	s.holds(victim, "torn", append(pattern(2, 1)[:holdfast.BlockSize:holdfast.BlockSize], pattern(1, 1)[holdfast.BlockSize:]...))
}

// differ has the copies of a volume differ, of which one gets another write than
// the others do while its host is down. It returns that host.
func (s *scene) differ(a lab.Host, volume string) (victim lab.Host) {
	s.t.Helper()
	disk := s.attach(a, volume) // stays: the epoch must be the same all the time
	defer disk.Close()
	write := func(b []byte) {
		if _, err := disk.WriteAt(b, 0); err != nil {
			s.t.Fatal(err)
		}
		if err := disk.Flush(); err != nil {
			s.t.Fatal(err)
		}
	}
	write(pattern(1, 1))
	v := s.inSync(volume)
	victim = s.host(s.other(a.Rack, v.Writer[:1]) + "1")
	s.kill(victim.Rack)
	s.stray(v, victim.Name)
	write(pattern(2, 1)[:holdfast.BlockSize])
	s.start(victim.Rack)
	s.inSync(volume)
	return victim
}

// stray gives a volume's copy on a host, which does not run, another write than
// will be the next one.
func (s *scene) stray(v v1.Volume, host string) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	path := ""
	for _, r := range v.Replicas {
		if r.Host == host {
			path = r.Path
		}
	}
	dev, err := filedisk.Open(path, filedisk.Options{})
	must(err)
	defer dev.Close()
	st, err := store.Open(dev, store.Options{Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
	must(err)
	id, err := holdfast.ParseUUID(v.ID)
	must(err)
	for _, r := range st.Replicas() {
		if r.State().Volume.UUID != id {
			continue
		}
		prefix, _ := r.Position()
		vol, data := r.State().Volume, pattern(9, 1)[:holdfast.BlockSize]
		must(r.Append([]record.Record{{Kind: record.Write, LSN: prefix + 1, Count: 1, Data: data,
			Hashes: []uint64{checksum.Block(vol, 0, prefix+1, data)}}}))
		done := clock.NewFuture[error](clock.System{})
		r.Sync(prefix+1, func(err error) { done.Resolve(err) })
		err, _ := done.Wait(patience)
		must(err)
		must(st.Close())
		return
	}
	s.t.Fatalf("there is no copy of volume %s on %s", v.Name, path)
}
