package alert

import (
	"fmt"
	"strings"
	"time"
)

// What a message is about.
const (
	News     = "alerts"   // something changed
	Reminder = "reminder" // something is still wrong
	Test     = "test"     // somebody tries a receiver
)

// What became of an alert.
const (
	Raised  = "raised"
	Changed = "changed" // its severity, or what follows from it is worse
	Cleared = "cleared"
	Open    = "open" // in a reminder
)

// Bounds of a message.
const (
	maxAlerts  = 100 // in a message; the others are counted
	maxEffects = 20  // of an alert; likewise
	maxText    = 600 // characters
)

// Message is what is told, as a webhook gets it (docs/alerts.md).
type Message struct {
	Version  int       `json:"version"` // 1
	ID       string    `json:"id"`      // the same if it is sent again
	Kind     string    `json:"kind"`
	At       time.Time `json:"at"` // when it was put together
	Cluster  string    `json:"cluster"`
	Host     string    `json:"host"` // that put it together
	Receiver string    `json:"receiver"`
	Sentence string    `json:"sentence"`       // how the cluster is
	Open     int       `json:"open"`           // alerts that the receiver knows of now
	Alerts   []Alert   `json:"alerts"`         // the worst first, what is over last
	More     int       `json:"more,omitempty"` // that found no room in alerts
}

// Alert is a condition, and what became of it.
type Alert struct {
	ID       string     `json:"id"` // of the condition
	Change   string     `json:"change"`
	Severity string     `json:"severity"`
	Was      string     `json:"was,omitempty"` // its severity, of one that changed
	Text     string     `json:"text"`
	Since    *time.Time `json:"since,omitempty"`
	Runbook  string     `json:"runbook,omitempty"` // the page that says what to do
	Effects  []Effect   `json:"effects,omitempty"` // what follows from it
	More     int        `json:"more,omitempty"`    // effects that found no room
}

// Effect is what follows from a condition.
type Effect struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Text     string `json:"text"`
}

// fit counts what finds no room instead of saying it: what follows first, then what
// is least.
func (m *Message) fit() {
	m.cut(maxAlerts)
	for n := maxEffects / 2; len(encode(m)) > maxWaiting; n /= 2 {
		if n == 0 {
			m.cut(len(m.Alerts) / 2)
			continue
		}
		for i := range m.Alerts {
			a := &m.Alerts[i]
			if over := len(a.Effects) - n; over > 0 {
				a.Effects, a.More = a.Effects[:n:n], a.More+over
			}
		}
	}
}

func (m *Message) cut(n int) {
	if over := len(m.Alerts) - n; over > 0 {
		m.Alerts, m.More = m.Alerts[:n:n], m.More+over
	}
}

// Subject is the message in one line.
func (m *Message) Subject() string {
	about := ""
	switch n := len(m.Alerts) + m.More; {
	case m.Kind == Test:
		about = "this is a test"
	case m.Kind == Reminder:
		about = fmt.Sprintf("still %s", count(m.Open, "alert"))
	case len(m.Alerts) == 0:
		about = count(n, "alert")
	case n == 1:
		about = m.Alerts[0].Change + ": " + m.Alerts[0].Text
	default:
		about = count(n, "alert") + ": " + m.Alerts[0].Text
	}
	return clip(fmt.Sprintf("[%s] %s", m.Cluster, oneLine(about)), 200)
}

// Text is the message for people.
func (m *Message) Text() string {
	var b strings.Builder
	fmt.Fprintln(&b, oneLine(m.Sentence))
	if m.Kind == Test {
		fmt.Fprintf(&b, "\nThis is a test of the alert receiver %s: nothing has happened.\n", m.Receiver)
	}
	for _, a := range m.Alerts {
		head := strings.ToUpper(a.Severity)
		if a.Change != Open {
			head += ", " + a.Change
		}
		if a.Was != "" && a.Was != a.Severity {
			head += " from " + a.Was
		}
		fmt.Fprintf(&b, "\n%s: %s\n", head, oneLine(a.Text))
		if a.Since != nil {
			fmt.Fprintf(&b, "  since %s\n", a.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
		}
		for _, e := range a.Effects {
			fmt.Fprintf(&b, "  - %s\n", oneLine(e.Text))
		}
		if a.More > 0 {
			fmt.Fprintf(&b, "  - and %d more\n", a.More)
		}
		if a.Runbook != "" && a.Change != Cleared {
			fmt.Fprintf(&b, "  what to do: holdfast runbook %s\n", a.Runbook)
		}
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "\nand %d more.\n", m.More)
	}
	fmt.Fprintf(&b, "\nCluster %s, host %s, %s. Still open: %d. Message %s.\n", m.Cluster, m.Host, m.At.UTC().Format("2006-01-02 15:04:05 UTC"), m.Open, m.ID)
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine keeps names and texts of others from making lines of their own.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0x85 || c == 0x2028 || c == 0x2029 {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "�"))
}

// clip bounds a text, in characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	i, last := 0, 0 // characters, and where the last but one that fits ends
	for at := range s {
		if i++; i == n {
			last = at
		} else if i > n {
			return s[:last] + "…"
		}
	}
	return s
}
