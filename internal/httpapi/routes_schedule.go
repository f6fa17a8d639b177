package httpapi

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Schedules is about backups that are made again and again.
type Schedules interface {
	// CreateSchedule makes a schedule. Exists: the name is taken.
	CreateSchedule(ctx context.Context, s cluster.BackupSchedule) error
	// SetSchedule changes what was chosen of the schedule of that name to what s
	// says. Conflict: what was chosen is not that of was any more.
	SetSchedule(ctx context.Context, was, s cluster.BackupSchedule) error
	// DeleteSchedule ends one; its backups stay.
	DeleteSchedule(ctx context.Context, name string) error
	// AskSchedule has one run as soon as its host sees it.
	AskSchedule(ctx context.Context, name string) error
}

// ScheduleRef names a schedule in a request.
type ScheduleRef struct {
	Schedule string `path:"schedule" maxLength:"63" doc:"Name"`
}

func (s *Server) scheduleRoutes() {
	read(s, "/v1/backup-schedules", "backup-schedule-list", "Backups that are made again and again", func(p picture, _ *none) ([]v1.BackupSchedule, error) {
		out := []v1.BackupSchedule{}
		for _, b := range p.SortedSchedules() {
			out = append(out, p.renderSchedule(b.Val))
		}
		return out, nil
	})
	read(s, "/v1/backup-schedules/{schedule}", "backup-schedule-show", "One schedule, and what became of its last run", func(p picture, in *ScheduleRef) (v1.BackupSchedule, error) {
		b, err := p.schedule(in.Schedule)
		return p.renderSchedule(b), err
	})
	act(s, s.operation("POST", "/v1/backup-schedules", "backup-schedule-create", "Have volumes backed up again and again", 201), s.createSchedule)
	type change struct {
		ScheduleRef
		Body v1.BackupScheduleSet
	}
	act(s, s.operation("PATCH", "/v1/backup-schedules/{schedule}", "backup-schedule-set", "Change a schedule; what is absent stays as it is", 200),
		func(ctx context.Context, in *change) (v1.BackupSchedule, error) {
			return s.setSchedule(ctx, in.Schedule, in.Body)
		})
	do(s, s.operation("DELETE", "/v1/backup-schedules/{schedule}", "backup-schedule-delete", "End a schedule; its backups stay", 204),
		func(ctx context.Context, in *ScheduleRef) error {
			b, err := lookup(ctx, s, in.Schedule, picture.schedule)
			if err != nil {
				return err
			}
			return s.changer(ctx).DeleteSchedule(ctx, b.Name)
		})
	do(s, s.operation("POST", "/v1/backup-schedules/{schedule}/run", "backup-schedule-run", "Have its backup made now", 204),
		func(ctx context.Context, in *ScheduleRef) error {
			b, err := lookup(ctx, s, in.Schedule, picture.schedule)
			if err != nil {
				return err
			}
			return s.changer(ctx).AskSchedule(ctx, b.Name)
		})
}

func (p picture) schedule(name string) (cluster.BackupSchedule, error) {
	b, ok := p.Schedules[name]
	if !ok {
		return b.Val, holdfast.Errorf(holdfast.NotFound, "there is no backup schedule %q: see 'holdfast backup schedule list'", clip(name))
	}
	return b.Val, nil
}

func (s *Server) createSchedule(ctx context.Context, in *request[v1.BackupScheduleSpec]) (v1.BackupSchedule, error) {
	p, err := s.picture(ctx)
	if err != nil {
		return v1.BackupSchedule{}, err
	}
	b, err := p.newSchedule(in.Body)
	if err != nil {
		return v1.BackupSchedule{}, err
	}
	if err := s.changer(ctx).CreateSchedule(ctx, b); err != nil {
		return v1.BackupSchedule{}, err
	}
	if p, err = s.picture(ctx); err != nil {
		return v1.BackupSchedule{}, err
	}
	return p.renderSchedule(b), nil
}

// setTries is how often a change is made anew of what others change at the same time.
const setTries = 5

func (s *Server) setSchedule(ctx context.Context, name string, c v1.BackupScheduleSet) (out v1.BackupSchedule, err error) {
	for range setTries {
		if err = s.setScheduleOnce(ctx, name, c); !holdfast.IsKind(err, holdfast.Conflict) {
			break
		}
	}
	if err != nil {
		return out, err
	}
	p, err := s.picture(ctx)
	if err != nil {
		return out, err
	}
	is, err := p.schedule(name)
	if err != nil {
		return out, err
	}
	return p.renderSchedule(is), nil
}

func (s *Server) setScheduleOnce(ctx context.Context, name string, c v1.BackupScheduleSet) error {
	p, err := s.picture(ctx)
	if err != nil {
		return err
	}
	is, err := p.schedule(name)
	if err != nil {
		return err
	}
	spec := specOf(is)
	override(&spec.Volumes, c.Volumes)
	override(&spec.Host, c.Host)
	override(&spec.Dir, c.Dir)
	override(&spec.Every, c.Every)
	override(&spec.Keep, c.Keep)
	override(&spec.FullAfter, c.FullAfter)
	override(&spec.Recipients, c.Recipients)
	override(&spec.Plaintext, c.Plaintext)
	b, err := p.newSchedule(spec)
	if err != nil {
		return err
	}
	return s.changer(ctx).SetSchedule(ctx, is, b)
}

// override sets what was given.
func override[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// specOf is the request that a schedule would be made by.
func specOf(b cluster.BackupSchedule) v1.BackupScheduleSpec {
	spec := v1.BackupScheduleSpec{Name: b.Name, Host: b.Host.String(), Dir: b.Dir, Every: int64(b.Every / time.Second), Keep: b.Keep,
		FullAfter: b.FullAfter, Recipients: b.Recipients, Plaintext: b.Plaintext}
	for _, id := range b.Volumes {
		spec.Volumes = append(spec.Volumes, id.String())
	}
	return spec
}

// newSchedule checks a request and resolves its names.
func (p picture) newSchedule(spec v1.BackupScheduleSpec) (b cluster.BackupSchedule, err error) {
	if err := holdfast.CheckName("backup schedule", spec.Name); err != nil {
		return b, err
	}
	host, err := p.host(spec.Host)
	if err != nil {
		return b, err
	}
	keep, err := backup.ParseKeep(spec.Keep)
	if err != nil {
		return b, err
	}
	if _, err := backup.Recipients(spec.Recipients); err != nil {
		return b, err
	}
	if host.Witness {
		return b, holdfast.Errorf(holdfast.Invalid, "host %s is a witness, which does nothing but vote; choose another host", host.Name)
	}
	if !filepath.IsAbs(spec.Dir) || strings.ContainsRune(spec.Dir, 0) {
		return b, holdfast.Errorf(holdfast.Invalid, "directory %q: give an absolute path on host %s, like /mnt/backups", clip(spec.Dir), host.Name)
	}
	b = cluster.BackupSchedule{Name: spec.Name, Host: host.ID, Dir: filepath.Clean(spec.Dir), Every: time.Duration(spec.Every) * time.Second, Keep: keep.String(),
		FullAfter: spec.FullAfter, Recipients: spec.Recipients, Plaintext: spec.Plaintext}
	for _, ref := range spec.Volumes {
		v, err := p.volume(ref)
		if err != nil {
			return b, err
		}
		if v.Encrypted() && len(b.Recipients) == 0 && !b.Plaintext {
			return b, holdfast.Errorf(holdfast.Denied, "volume %s is encrypted, and its backups would not be: seal them with --recipient age1…, or say --plaintext", v.Name)
		}
		if slices.Contains(b.Volumes, v.ID) {
			return b, holdfast.Errorf(holdfast.Invalid, "volume %s is named twice", v.Name)
		}
		b.Volumes = append(b.Volumes, v.ID)
	}
	return b, nil
}

func (p picture) renderSchedule(b cluster.BackupSchedule) v1.BackupSchedule {
	out := v1.BackupSchedule{Name: b.Name, Volumes: []string{}, Host: p.Hosts[b.Host].Val.Name, Dir: b.Dir, Every: int64(b.Every / time.Second), Keep: b.Keep,
		FullAfter: b.FullAfter, Recipients: append([]string{}, b.Recipients...), Plaintext: b.Plaintext, Error: b.Error, Length: b.Length, Created: b.Created}
	for _, id := range b.Volumes {
		name := id.Short()
		if v, ok := p.Volumes[id]; ok {
			name = v.Val.Name
		}
		out.Volumes = append(out.Volumes, name)
	}
	if !b.Began.IsZero() {
		out.Began = &b.Began
	}
	if !b.Good.IsZero() {
		out.Good = &b.Good
	}
	if !b.Next.IsZero() && !b.Running {
		out.Next = &b.Next
	}
	if !b.Late.IsZero() {
		out.Late = &b.Late
	}
	switch {
	case !p.AliveHost(b.Host):
		out.State = "away"
	case b.Running:
		out.State = "running"
	case b.Error != "":
		out.State = "failed"
	case !b.Late.IsZero():
		out.State = "late"
	case b.Began.IsZero():
		out.State = "new"
	default:
		out.State = "ok"
	}
	return out
}
