package v1

import (
	"errors"
	"net/http"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// Problem is an error answer (RFC 9457). Type is stable and made from the
// error's kind; Detail is written for people: what, why and what to do.
type Problem struct {
	Type   string    `json:"type" example:"urn:holdfast:problem:not-found"`
	Title  string    `json:"title"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
	Errors []Mistake `json:"errors,omitempty" doc:"Each thing that is wrong with the request"`
}

// Mistake is one thing that is wrong with a request.
type Mistake struct {
	Where string `json:"where" example:"body.memory_mib"`
	What  string `json:"what"`
}

const problemPrefix = "urn:holdfast:problem:"

// kinds that may cross the API, in the order of holdfast.Kind.
func allKinds() []holdfast.Kind {
	var ks []holdfast.Kind
	for k := holdfast.Other; k <= holdfast.LostCache; k++ {
		ks = append(ks, k)
	}
	return ks
}

// ProblemType returns the type URI of a kind.
func ProblemType(k holdfast.Kind) string {
	r := strings.NewReplacer(" ", "-", "/", "")
	return problemPrefix + r.Replace(k.String())
}

// problemChanged is the type of Changed; as an error it is a conflict.
const problemChanged = problemPrefix + "changed"

// Changed is the answer to a request whose If-Match names what is not so any more.
func Changed(detail string) *Problem {
	return &Problem{Type: problemChanged, Title: "changed", Status: http.StatusPreconditionFailed, Detail: detail}
}

// KindOfType returns the kind of a type URI, and Other if it is not one.
func KindOfType(uri string) holdfast.Kind {
	if uri == problemChanged {
		return holdfast.Conflict
	}
	for _, k := range allKinds() {
		if ProblemType(k) == uri {
			return k
		}
	}
	return holdfast.Other
}

// StatusOf returns the HTTP status of a kind.
func StatusOf(k holdfast.Kind) int {
	switch k {
	case holdfast.Invalid:
		return http.StatusBadRequest
	case holdfast.NotFound:
		return http.StatusNotFound
	case holdfast.Exists, holdfast.Conflict, holdfast.Busy, holdfast.Fenced:
		return http.StatusConflict
	case holdfast.Denied:
		return http.StatusForbidden
	case holdfast.NoSpace:
		return http.StatusInsufficientStorage
	case holdfast.Unavailable, holdfast.Unknown, holdfast.Closed, holdfast.Gap:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// NewProblem renders an error.
func NewProblem(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	k := holdfast.KindOf(err)
	return &Problem{Type: ProblemType(k), Title: k.String(), Status: StatusOf(k), Detail: err.Error()}
}

// Error implements error.
func (p *Problem) Error() string {
	if len(p.Errors) == 0 {
		return p.Detail
	}
	var b strings.Builder
	b.WriteString(p.Detail)
	for i, m := range p.Errors {
		b.WriteString([2]string{"; ", ": "}[btoi(i == 0)])
		if m.Where != "" {
			b.WriteString(m.Where + ": ")
		}
		b.WriteString(m.What)
	}
	return b.String()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Err returns the problem as an error of its kind.
func (p *Problem) Err() error {
	return holdfast.Errorf(KindOfType(p.Type), "%s", p.Error())
}

// GetStatus returns the HTTP status of the answer.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of RFC 9457 for JSON.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
