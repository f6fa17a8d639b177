package run

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
)

// Pruning removes backups from a directory that are not to be kept.
type Pruning struct {
	Dir    string
	Volume string         // name or identity; "": all volumes
	Keep   backup.Keep    // nothing: all
	Client *client.Client // to let the snapshots go that were made for them; nil: they stay
	Plan   bool           // only say what would go
	Note   func(string)
}

// Run removes them and returns what went, or would. A backup goes before what
// it is the difference to, so what is left is whole whenever it is interrupted.
func (p *Pruning) Run(ctx context.Context) (gone []backup.File, err error) {
	unlock, err := lock(p.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	files, err := backup.List(p.Dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range files {
		if v := f.Header.Volume; v != nil && !slices.Contains(ids, v.ID) && (p.Volume == "" || p.Volume == v.Name || p.Volume == v.ID) {
			ids = append(ids, v.ID)
		}
	}
	for _, id := range ids {
		mine, err := backup.Of(files, id)
		if holdfast.IsKind(err, holdfast.NotFound) {
			continue
		}
		if err != nil {
			return gone, err
		}
		drop := p.Keep.Prune(mine)
		slices.Reverse(drop)
		for _, f := range drop {
			if err := ctx.Err(); err != nil {
				return gone, err
			}
			if err := p.remove(ctx, f); err != nil {
				return gone, err
			}
			gone = append(gone, f)
		}
	}
	if len(gone) > 0 && !p.Plan {
		err = backup.SyncDir(p.Dir)
	}
	return gone, err
}

func (p *Pruning) remove(ctx context.Context, f backup.File) error {
	if p.Plan {
		return nil
	}
	if err := os.Remove(f.Path); err != nil {
		return holdfast.Errorf(holdfast.IO, "an old backup: %w", err)
	}
	if p.Client == nil {
		return nil
	}
	if err := letKeptGo(ctx, p.Client, &f.Header); err != nil && p.Note != nil {
		p.Note("snapshot " + f.Header.Snapshot.Name + " of " + filepath.Base(f.Path) + ", which was removed, could not be deleted: " + err.Error())
	}
	return nil
}
