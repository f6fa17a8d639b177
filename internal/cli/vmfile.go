package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// maxVMFile bounds the file of a VM's definition, in bytes.
const maxVMFile = 1 << 20

// vmFileOf is a VM's definition. Its disks are named, not copied.
func vmFileOf(v v1.VM) v1.VMFile {
	f := v1.VMFile{Format: v1.VMFileFormat, VMSpec: v1.VMSpec{Name: v.Name, Volume: v.Volume, CPUs: v.CPUs, MemoryMiB: v.MemoryMiB, Off: v.Power == "off",
		Priority: v.Priority, Isolation: v.Isolation, Publish: v.Publish, UserData: v.UserData, SSHKeys: v.SSHKeys,
		Kernel: v.Kernel, Initrd: v.Initrd, Append: v.Append, CDROM: v.CDROM, Boot: v.Boot, Vars: v.Vars}}
	if v.Vars != "" {
		f.Firmware = v.Firmware
	}
	for _, d := range v.Disks {
		if d.Slot != 0 && d.State != "leaving" {
			f.Disks = append(f.Disks, v1.VMDiskSpec{Volume: d.Volume})
		}
	}
	return f
}

// readVMFile reads a VM's definition from a file, or from in if it is "-".
func readVMFile(name string, in io.Reader) (v1.VMFile, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return v1.VMFile{}, holdfast.Errorf(holdfast.NotFound, "-f: %w", err)
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxVMFile+1))
	if err != nil {
		return v1.VMFile{}, holdfast.Errorf(holdfast.IO, "read %s: %w", name, err)
	}
	f, err := parseVMFile(b)
	if err != nil {
		return f, holdfast.Errorf(holdfast.Invalid, "%s: %w", plain(name), err)
	}
	return f, nil
}

// parseVMFile reads YAML, of which JSON is a part. What it does not know it
// refuses, with the line.
func parseVMFile(b []byte) (f v1.VMFile, err error) {
	if len(b) > maxVMFile {
		return f, holdfast.Errorf(holdfast.Invalid, "more than %d bytes", maxVMFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return f, holdfast.Errorf(holdfast.Invalid, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return f, holdfast.Errorf(holdfast.Invalid, "it does not hold the definition of a VM; 'holdfast vm export VM' shows what one looks like")
	}
	if err := knownFields(doc.Content[0], reflect.TypeFor[v1.VMFile](), ""); err != nil {
		return f, err
	}
	var loose any
	if err := doc.Decode(&loose); err != nil {
		return f, holdfast.Errorf(holdfast.Invalid, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	text, err := json.Marshal(loose)
	if err != nil {
		return f, holdfast.Errorf(holdfast.Invalid, "%w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&f); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return f, holdfast.Errorf(holdfast.Invalid, "%s is a %s where a %s is wanted", t.Field, t.Value, kindWord(t.Type))
		}
		return f, holdfast.Errorf(holdfast.Invalid, "%w", err)
	}
	if f.Format != v1.VMFileFormat {
		return f, holdfast.Errorf(holdfast.Invalid, "format %d; this build reads format %d, which the file has to say", f.Format, v1.VMFileFormat)
	}
	return f, nil
}

func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "list"
	case reflect.Struct:
		return "group of fields"
	}
	return t.Kind().String()
}

// knownFields refuses a field that a type does not have, or one that is there
// twice, with its line.
func knownFields(n *yaml.Node, t reflect.Type, at string) error {
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, item := range n.Content {
			if err := knownFields(item, t.Elem(), at); err != nil {
				return err
			}
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		fields := jsonFields(t)
		var names []string
		for _, f := range fields {
			names = append(names, f.name)
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			at := strings.TrimPrefix(at+"."+key.Value, ".")
			j := slices.Index(names, key.Value)
			if j < 0 {
				hint := "it has " + strings.Join(names, ", ")
				if near := nearest.Of(key.Value, names); near != "" {
					hint = "did you mean " + near + "?"
				}
				return holdfast.Errorf(holdfast.Invalid, "line %d: there is no field %.80q: %s", key.Line, at, hint)
			}
			if err := knownFields(n.Content[i+1], fields[j].typ, at); err != nil {
				return err
			}
		}
	case n.Kind == yaml.AliasNode:
		return holdfast.Errorf(holdfast.Invalid, "line %d: %s refers to another part of the file; write it out", n.Line, at)
	}
	return nil
}

type jsonField struct {
	name string
	typ  reflect.Type
}

// jsonFields lists the fields of a struct as JSON has them.
func jsonFields(t reflect.Type) (out []jsonField) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, jsonField{name, f.Type})
	}
	return out
}
