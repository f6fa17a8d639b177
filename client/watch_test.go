package client

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func FuzzEvents(f *testing.F) {
	f.Add("retry: 1000\n\nevent: all\ndata: {\"kind\":\"all\"}\n\n:\n\nid: 7\nevent: vm\ndata: {\"kind\":\"vm\",\"id\":\"x\",\"gone\":true,\"at\":\"7\"}\n\n")
	f.Add("data: {}\n\n")
	f.Add("data: [1")
	f.Fuzz(func(t *testing.T, in string) {
		n := 0
		err := readEvents(strings.NewReader(in), func(e v1.Event) error {
			if n++; e.Kind == "" {
				t.Error("an event of no kind")
			}
			return nil
		})
		if err == nil || !holdfast.IsKind(err, holdfast.Unavailable) && !holdfast.IsKind(err, holdfast.Other) {
			t.Errorf("%v", err)
		}
		if n > strings.Count(in, "data:") {
			t.Errorf("%d events", n)
		}
	})
}

func TestAStreamEndsWhereItsReaderWantsItTo(t *testing.T) {
	enough := errors.New("enough")
	var got []string
	err := readEvents(strings.NewReader("data: {\"kind\":\"all\"}\n\ndata:{\"kind\":\"vm\",\"id\":\"1\"}\n\ndata: {\"kind\":\"ready\"}\n\n"), func(e v1.Event) error {
		if got = append(got, e.Kind); e.Kind == "vm" {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(got) != 2 {
		t.Errorf("%v after %v", err, got)
	}
}
