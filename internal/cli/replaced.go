package cli

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
)

// replaced reads what stands somewhere, nothing being that too, and has change put
// something else in its place, as long as nobody else did. Kind Conflict: somebody
// was quicker; it says what stands there now, and show is the command that shows it.
func replaced[T any](ctx context.Context, what, show string, read func(context.Context) (T, error), change func(ctx context.Context, was T) (T, error)) (T, error) {
	var tag string
	was, err := read(client.WithTag(ctx, &tag))
	if err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
		return was, err
	}
	on := ctx
	if err == nil && tag != "" {
		on = client.IfMatch(ctx, tag)
	}
	is, err := change(on, was)
	if !client.IsChanged(err) {
		return is, err
	}
	now := "it cannot be read again"
	if is, rerr := read(ctx); rerr == nil {
		now = differences(was, is)
	} else if holdfast.IsKind(rerr, holdfast.NotFound) {
		now = "it is gone"
	}
	return is, holdfast.Errorf(holdfast.Conflict, "somebody else changed %s meanwhile, and nothing was done: %s; look at it with 'holdfast %s', and try again", what, now, show)
}

// maxShown bounds a value that is shown in a sentence, in bytes.
const maxShown = 200

// differences says which fields of two objects differ, and how.
func differences(was, is any) string {
	fields := func(v any) (m map[string]any) {
		if b, err := json.Marshal(v); err == nil {
			_ = json.Unmarshal(b, &m) // of what is no object there is nothing to say
		}
		return m
	}
	a, b := fields(was), fields(is)
	all := maps.Clone(b)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, a)
	shown := func(m map[string]any, name string) string {
		v, ok := m[name]
		if !ok {
			return "nothing"
		}
		text, err := json.Marshal(v)
		if err != nil || len(text) > maxShown {
			return "something longer"
		}
		return string(text)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch from, to := shown(a, name), shown(b, name); {
		case reflect.DeepEqual(a[name], b[name]):
		case from == to: // both too long
			out = append(out, name+" is another one")
		default:
			out = append(out, name+" was "+from+", and is "+to)
		}
	}
	if len(out) == 0 {
		return "it is what it was again"
	}
	return strings.Join(out, "; ")
}
