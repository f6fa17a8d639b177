package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

func TestWhatIsBackedUpCanBeRestored(t *testing.T) {
	ctx := context.Background()
	b := apitest.Three()
	c, _ := serve(t, b)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	v, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "db", Size: 3 << 20, Durability: "always", Reads: "confirmed"})
	must(err)
	id, err := holdfast.ParseUUID(v.ID)
	must(err)
	disk := bytes.Repeat([]byte("holdfast"), 3<<17)
	b.Content[holdfast.VolumeID{UUID: id}] = disk
	for _, name := range []string{"monday", "tuesday"} {
		_, err = c.Snapshot(ctx, "db", v1.SnapshotSpec{Name: name})
		must(err)
	}
	get := func(a client.BackupAsk) []byte {
		t.Helper()
		r, err := c.BackupVolume(ctx, "db", a)
		must(err)
		defer r.Close()
		out, err := io.ReadAll(r)
		must(err)
		return out
	}
	full, diff := get(client.BackupAsk{Snapshot: "monday"}), get(client.BackupAsk{Snapshot: "tuesday", Base: "monday"})
	again, err := c.RestoreVolume(ctx, client.NewRestore{Name: "again"}, io.MultiReader(bytes.NewReader(full), bytes.NewReader(diff)))
	must(err)
	id, err = holdfast.ParseUUID(again.ID)
	must(err)
	if !bytes.Equal(b.Content[holdfast.VolumeID{UUID: id}], disk) {
		t.Error("other bytes came back")
	}
	if again.Durability != "always" || again.Reads != "confirmed" {
		t.Errorf("what was restored is acknowledged on %s, and reads are %s", again.Durability, again.Reads)
	}
	for name, body := range map[string][]byte{"nothing": nil, "a difference alone": diff, "something else": disk} {
		if _, err := c.RestoreVolume(ctx, client.NewRestore{Name: "x"}, bytes.NewReader(body)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.RestoreVolume(ctx, client.NewRestore{Name: "x"}, bytes.NewReader(full[:len(full)-1])); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("all but a byte: %v", err)
	}
	if _, err := c.BackupVolume(ctx, "db", client.BackupAsk{Snapshot: "friday"}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	records, err := c.BackupCluster(ctx)
	must(err)
	defer records.Close()
	if _, err := c.RestoreVolume(ctx, client.NewRestore{Name: "x"}, records); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a backup of the records: %v", err)
	}
}

func TestASchedule(t *testing.T) {
	ctx := context.Background()
	c, _ := serve(t, apitest.Three())
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "db", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	good := v1.BackupScheduleSpec{Name: "nightly", Volumes: []string{"db"}, Host: "alpha", Dir: "/mnt/b", Every: 3600, Keep: "last=7"}
	s, err := c.CreateBackupSchedule(ctx, good)
	if err != nil || s.State != "new" || s.Volumes[0] != "db" || s.Host != "alpha" {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := c.CreateBackupSchedule(ctx, good); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("twice: %v", err)
	}
	for what, change := range map[string]func(*v1.BackupScheduleSpec){
		"a relative directory": func(s *v1.BackupScheduleSpec) { s.Dir = "b" },
		"nothing is kept":      func(s *v1.BackupScheduleSpec) { s.Keep = "last=0" },
		"no recipient":         func(s *v1.BackupScheduleSpec) { s.Recipients = []string{"age1x"} },
		"twice":                func(s *v1.BackupScheduleSpec) { s.Volumes = []string{"db", "db"} },
		"all the time":         func(s *v1.BackupScheduleSpec) { s.Every = 1 },
	} {
		bad := good
		bad.Name = "other"
		change(&bad)
		if _, err := c.CreateBackupSchedule(ctx, bad); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.RunBackupSchedule(ctx, "nightly"); err != nil {
		t.Fatal(err)
	}
	if s, err = c.BackupSchedule(ctx, "nightly"); err != nil || s.State != "ok" || s.Good == nil {
		t.Errorf("%+v, %v", s, err)
	}
	every, keep, dir := int64(7200), "", "relative"
	if s, err = c.SetBackupSchedule(ctx, "nightly", v1.BackupScheduleSet{Every: &every, Keep: &keep}); err != nil || s.Every != 7200 || s.Keep != "" || s.Dir != "/mnt/b" || s.Volumes[0] != "db" || s.Good == nil {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.SetBackupSchedule(ctx, "nightly", v1.BackupScheduleSet{Dir: &dir}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("a relative directory: %v", err)
	}
	if _, err := c.SetBackupSchedule(ctx, "other", v1.BackupScheduleSet{Every: &every}); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := c.DeleteBackupSchedule(ctx, "nightly"); err != nil {
		t.Fatal(err)
	}
	if list, err := c.BackupSchedules(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// quicker is a cluster in which somebody else changes a schedule a moment before.
type quicker struct {
	*apitest.Backend
	before func(was cluster.BackupSchedule)
}

func (q *quicker) SetSchedule(ctx context.Context, was, s cluster.BackupSchedule) error {
	if f := q.before; f != nil {
		q.before = nil
		f(was)
	}
	return q.Backend.SetSchedule(ctx, was, s)
}

// Who change different things of a schedule at the same time both have their way.
func TestTwoChangeASchedule(t *testing.T) {
	ctx, q := t.Context(), &quicker{Backend: apitest.Three()}
	c, _ := serve(t, q)
	if _, err := c.CreateVolume(ctx, v1.VolumeSpec{Name: "db", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateBackupSchedule(ctx, v1.BackupScheduleSpec{Name: "nightly", Volumes: []string{"db"}, Host: "alpha", Dir: "/mnt/b", Every: 3600}); err != nil {
		t.Fatal(err)
	}
	q.before = func(was cluster.BackupSchedule) {
		theirs := was
		theirs.Dir = "/mnt/theirs"
		if err := q.Backend.SetSchedule(ctx, was, theirs); err != nil {
			t.Error(err)
		}
	}
	every := int64(7200)
	if s, err := c.SetBackupSchedule(ctx, "nightly", v1.BackupScheduleSet{Every: &every}); err != nil || s.Every != every || s.Dir != "/mnt/theirs" {
		t.Errorf("%+v, %v", s, err)
	}
}
