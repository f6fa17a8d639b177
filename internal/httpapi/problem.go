package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// problems rewrites the errors that huma itself makes (a body that does not
// parse, a field that is unknown or out of range) into v1.Problem. Values are
// not echoed: a body may hold secrets.
func problems(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	kind := holdfast.Invalid
	if m.Status >= 500 {
		kind = holdfast.Other
	}
	p := &v1.Problem{Type: v1.ProblemType(kind), Title: kind.String(), Status: m.Status, Detail: m.Detail}
	if m.Detail == "validation failed" {
		p.Detail = "the request is not understood"
	}
	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, v1.Mistake{Where: e.Location, What: e.Message})
		}
	}
	slices.SortStableFunc(p.Errors, func(a, b v1.Mistake) int { return strings.Compare(a.Where, b.Where) })
	return p, nil
}

// fail turns an error of the backend into the answer.
func fail(err error) error {
	if err == nil {
		return nil
	}
	return v1.NewProblem(err)
}

// strictJSON is the JSON format of the API: a body is one value, and a field
// that is not known is named, with the field that was probably meant.
func strictJSON() huma.Format {
	return huma.Format{
		Marshal:   huma.DefaultJSONFormat.Marshal,
		Unmarshal: decodeStrict,
	}
}

func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return sayDecode(err, v)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	return nil
}

// sayDecode puts a decoder's error into words.
func sayDecode(err error, v any) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return errors.New("not JSON: " + err.Error())
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not JSON: it ends too early")
	}
	name, ok := strings.CutPrefix(err.Error(), "json: unknown field ")
	if !ok {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	name = strings.Trim(name, `"`)
	text := "unknown field " + clip(name)
	if near := nearest.Of(name, fields(reflect.TypeOf(v))); near != "" {
		text += "; did you mean " + near + "?"
	}
	return errors.New(text)
}

// fields lists the JSON names of a struct.
func fields(t reflect.Type) []string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}
