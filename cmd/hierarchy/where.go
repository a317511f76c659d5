package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// condition is one `--where key=value` or `--where key!=value`.
type condition struct {
	path  []string // of the member; its first name is one that an event has
	value string
	not   bool
}

// where is a list of conditions, which all have to hold.
type where []condition

// parseWhere reads conditions about events.
func parseWhere(texts []string) (where, error) {
	var w where
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		key, not := strings.CutSuffix(key, "!")
		if !ok || key == "" {
			return nil, usagef("--where %q is neither key=value nor key!=value", text)
		}
		c := condition{path: strings.Split(key, "."), value: value, not: not}
		if !slices.Contains(eventFields(), c.path[0]) {
			return nil, usagef("--where %q: an event has no %q; it has %s", text, c.path[0], strings.Join(eventFields(), ", "))
		}
		switch c.path[0] {
		case "priority", "effective_priority":
			p, err := op.ParsePriority(value)
			if err != nil {
				return nil, err
			}
			c.value = fmt.Sprint(int(p))
		}
		w = append(w, c)
	}
	return w, nil
}

// match reports whether every condition holds for an event as it was stored. A
// member that is absent is the empty text.
func (w where) match(event []byte) bool {
	if len(w) == 0 {
		return true
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(event, &all) != nil {
		return false
	}
	return !slices.ContainsFunc(w, func(c condition) bool { return (member(all, c.path) == c.value) == c.not })
}

// member is the text of a member: that of a string, else its JSON.
func member(all map[string]json.RawMessage, path []string) string {
	raw := all[path[0]]
	if len(path) > 1 {
		var inner map[string]json.RawMessage
		if json.Unmarshal(raw, &inner) != nil {
			return ""
		}
		return member(inner, path[1:])
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(bytes.TrimSpace(raw))
}

// eventFields are the members that an event may have.
func eventFields() []string {
	var names []string
	for f := range reflect.TypeFor[op.Event]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
