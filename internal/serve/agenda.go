package serve

import (
	"context"
	"reflect"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// agenda is what people choose of backup schedules: records, which the hosts that
// they name go by.
type agenda struct{ records *cluster.Client }

// CreateSchedule implements httpapi.Schedules.
func (a agenda) CreateSchedule(_ context.Context, s cluster.BackupSchedule) error {
	st, err := a.records.Refresh()
	if err != nil {
		return err
	}
	if len(st.Schedules) >= cluster.MaxSchedules {
		return holdfast.Errorf(holdfast.NoSpace, "there are %d backup schedules; delete one first", len(st.Schedules))
	}
	if _, ok := st.Schedules[s.Name]; ok {
		return holdfast.Errorf(holdfast.Exists, "there is a backup schedule %s; choose another name, or delete that first", s.Name)
	}
	s.Created = time.Now()
	tx := a.records.Begin()
	tx.PutSchedule(s, 0)
	return settled(a.records, tx)
}

// SetSchedule implements httpapi.Schedules.
func (a agenda) SetSchedule(_ context.Context, was, s cluster.BackupSchedule) error {
	return a.records.ChangeSchedule(s.Name, kv.CallTimeout, func(b *cluster.BackupSchedule) error {
		same := *b
		if same.Choose(was); !reflect.DeepEqual(same, *b) {
			return holdfast.Errorf(holdfast.Conflict, "somebody else changed backup schedule %s meanwhile; look at it and try again", s.Name)
		}
		b.Choose(s)
		return nil
	})
}

// DeleteSchedule implements httpapi.Schedules.
func (a agenda) DeleteSchedule(_ context.Context, name string) error {
	st, err := a.records.Refresh()
	if err != nil {
		return err
	}
	s, ok := st.Schedules[name]
	if !ok {
		return nil
	}
	tx := a.records.Begin()
	tx.DeleteSchedule(name, s.Mod)
	return settled(a.records, tx)
}

// AskSchedule implements httpapi.Schedules.
func (a agenda) AskSchedule(_ context.Context, name string) error {
	return a.records.ChangeSchedule(name, kv.CallTimeout, func(s *cluster.BackupSchedule) error {
		s.Asked = time.Now()
		return nil
	})
}

// settled commits and waits until the picture shows it.
func settled(c *cluster.Client, tx *cluster.Txn) error {
	rev, err := tx.Settle(kv.CallTimeout)
	if err == nil {
		c.WaitRev(rev, kv.CallTimeout)
	}
	return err
}
