package config

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-cloud/holdfast/internal/config/nearest"
)

// decode reads one YAML mapping into c. It walks the tree itself before
// decoding, because it wants to say more about a wrong key than that it is
// wrong.
func decode(b []byte, c *Config) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // empty: all defaults, and check asks for what is missing
	case err != nil:
		return invalid("it is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return invalid("there is more than one document in it; keep one")
	}
	if len(doc.Content) != 1 {
		return invalid("it is not a mapping of keys to values")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if err := checkKeys(root, reflect.TypeOf(*c), ""); err != nil {
		return err
	}
	if err := root.Decode(c); err != nil {
		return invalid("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return nil
}

// checkKeys compares a mapping with a struct, level by level.
func checkKeys(n *yaml.Node, t reflect.Type, prefix string) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return invalid("line %d: anchors and aliases are not used here; write the value out", n.Line)
	}
	if n.Kind != yaml.MappingNode {
		return invalid("line %d: %s must be a mapping of keys to values", n.Line, orFile(prefix))
	}
	known := map[string]reflect.Type{}
	var names []string
	for i := range t.NumField() {
		key := t.Field(i).Tag.Get("yaml")
		known[key] = t.Field(i).Type
		names = append(names, key)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		ft, ok := known[k.Value]
		switch {
		case !ok:
			return unknownKey(k, prefix, names)
		case seen[k.Value]:
			return invalid("line %d: %s%s is given twice", k.Line, prefix, k.Value)
		}
		seen[k.Value] = true
		if err := checkValue(v, ft, prefix+k.Value); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(v *yaml.Node, t reflect.Type, key string) error {
	if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
		return nil // as if it were not there
	}
	switch t.Kind() {
	case reflect.Struct:
		return checkKeys(v, t, key+".")
	case reflect.Slice:
		if v.Kind != yaml.SequenceNode || v.Anchor != "" {
			return invalid("line %d: %s must be a list", v.Line, key)
		}
		for _, e := range v.Content {
			if err := checkValue(e, t.Elem(), key); err != nil {
				return err
			}
		}
		return nil
	}
	if v.Kind != yaml.ScalarNode || v.Anchor != "" {
		return invalid("line %d: %s must be one value", v.Line, key)
	}
	return nil
}

func unknownKey(k *yaml.Node, prefix string, names []string) error {
	name := k.Value
	if len(name) > 60 {
		name = name[:60] + "…"
	}
	if near := nearest.Of(name, names); near != "" {
		return invalid("line %d: unknown key %q; did you mean %q?", k.Line, prefix+name, prefix+near)
	}
	return invalid("line %d: unknown key %q; known here are %s", k.Line, prefix+name, strings.Join(names, ", "))
}

func orFile(prefix string) string {
	if prefix == "" {
		return "the file"
	}
	return strings.TrimSuffix(prefix, ".")
}
