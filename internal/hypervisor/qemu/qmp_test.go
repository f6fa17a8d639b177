package qemu

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// script answers a monitor: for each command, what comes back; "ID" stands for
// the command's id.
func script(t *testing.T, answers ...string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		io.WriteString(theirs, `{"QMP":{"version":{},"capabilities":[]}}`+"\n")
		in := bufio.NewScanner(theirs)
		for _, a := range append([]string{`{"return":{},"id":ID}`}, answers...) {
			if !in.Scan() {
				return
			}
			var cmd struct {
				ID json.Number `json:"id"`
			}
			json.Unmarshal(in.Bytes(), &cmd)
			if a == "hang up" {
				return
			}
			if _, err := io.WriteString(theirs, strings.ReplaceAll(a, "ID", cmd.ID.String())+"\n"); err != nil {
				return
			}
		}
		io.Copy(io.Discard, theirs)
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	return ours
}

func TestTheMonitorTellsAnswersEventsAndErrorsApart(t *testing.T) {
	var events []string
	m, err := newMonitor(script(t,
		`{"event":"STOP","data":{"x":1},"timestamp":{}}`+"\n"+`{"return":{"status":"paused"},"id":ID}`,
		`{"error":{"class":"GenericError","desc":"no such thing"},"id":ID}`,
		`{"return":{},"id":99999}`,
		"hang up",
	), time.Minute, func(name string, _ json.RawMessage) { events = append(events, name) })
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	var st struct{ Status string }
	if err := m.execute("query-status", nil, &st, time.Minute); err != nil || st.Status != "paused" || len(events) != 1 || events[0] != "STOP" {
		t.Fatalf("%v, %+v, %v", err, st, events)
	}
	if err := m.execute("x", nil, nil, time.Minute); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Fatalf("a refusal: %v", err)
	}
	if err := m.execute("y", nil, nil, 10*time.Millisecond); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Fatalf("an answer to somebody else: %v", err)
	}
	if err := m.execute("z", nil, nil, time.Minute); !holdfast.IsKind(err, holdfast.Closed) {
		t.Fatalf("hung up: %v", err)
	}
	if err := m.execute("z", nil, nil, time.Minute); !holdfast.IsKind(err, holdfast.Closed) {
		t.Fatalf("after it hung up: %v", err)
	}
}

func TestGarbageEndsTheMonitor(t *testing.T) {
	for name, garbage := range map[string]string{
		"no JSON":        "hello",
		"nothing known":  `{"a":1}`,
		"a long message": `{"return":"` + strings.Repeat("x", maxMessage) + `","id":ID}`,
		"a wrong type":   `{"return":{},"id":"ID"}`,
	} {
		m, err := newMonitor(script(t, garbage), time.Minute, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.execute("x", nil, nil, time.Minute); !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("%s: %v", name, err)
		}
		m.close()
	}
}

func FuzzParseMessage(f *testing.F) {
	for _, s := range []string{`{"QMP":{}}`, `{"return":{},"id":7}`, `{"error":{"class":"a","desc":"b"}}`, `{"event":"STOP"}`, `[]`, `{"id":-1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err == nil && m.Greeting == nil && m.Return == nil && m.Error == nil && m.Event == "" {
			t.Error("accepted a message that says nothing")
		}
	})
}
