package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/account"
)

// TestAStreamEndsWithWhatItRestsOn: who may no more is told no more, though the
// stream was begun before.
func TestAStreamEndsWithWhatItRestsOn(t *testing.T) {
	d := newDoor(t)
	users := 0
	login := func(t *testing.T) (string, string) {
		users++
		name := fmt.Sprintf("u%d", users)
		if err := d.a.AddUser(name, account.Viewer, "", goodPassword); err != nil {
			t.Fatal(err)
		}
		return name, d.login(name)
	}
	for what, end := range map[string]func(name, cookie string) error{
		"the user is locked out": func(name, _ string) error {
			yes := true
			return d.a.SetUser(name, account.UserChange{Disabled: &yes})
		},
		"the user is deleted": func(name, _ string) error { return d.a.DeleteUser(name) },
		"the user may no more": func(name, _ string) error {
			p := "elsewhere"
			d.project(p)
			return d.a.SetUser(name, account.UserChange{Project: &p})
		},
		"the user has logged out": func(_, cookie string) error {
			d.want(204, "POST", "/v1/logout", "", "Cookie", cookie, "X-Holdfast-Request", "1")
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			name, cookie := login(t)
			req, _ := http.NewRequest(http.MethodGet, "https://"+d.addr+"/v1/watch", nil)
			req.Header.Set("Cookie", cookie)
			resp, err := d.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("watch: %d", resp.StatusCode)
			}
			if err := end(name, cookie); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil { // the client's limit of time, if it goes on
				t.Fatalf("the stream goes on: %v", err)
			}
		})
	}
}
