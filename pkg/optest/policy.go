package optest

import (
	"encoding/json"
	"fmt"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
)

// rules are the fields of a policy as an operator writes it.
type rules map[string]any

func (r rules) set(field string, v any) { r[field] = v }

// merge lays other rules over these. Only types are merged in depth, so that one
// can be added or changed by itself; a null takes a field away.
func (r rules) merge(text string) error {
	var over map[string]any
	if err := json.Unmarshal([]byte(text), &over); err != nil {
		return fmt.Errorf("optest: policy: %w", err)
	}
	lay(r, over, 2)
	return nil
}

// lay copies over's members, and those of objects down to a depth: the fields of
// the policy, the types, and the fields of a type.
func lay(under, over map[string]any, depth int) {
	for k, v := range over {
		have, isObject := under[k].(map[string]any)
		more, both := v.(map[string]any)
		switch {
		case v == nil:
			delete(under, k)
		case isObject && both && depth > 0:
			lay(have, more, depth-1)
		default:
			under[k] = v
		}
	}
}

// addType registers a type.
func (r rules) addType(name string, fields map[string]any) {
	lay(r, map[string]any{"types": map[string]any{name: fields}}, 2)
}

// text is the whole policy as operators write it, nil for the default one. The
// error is what a system would say about it.
func (r rules) text() ([]byte, error) {
	if len(r) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("optest: policy: %w", err)
	}
	p, err := arbiter.ParsePolicy(text, 0)
	if err == nil {
		_, err = registry.New(p)
	}
	if err != nil {
		return nil, fmt.Errorf("optest: %w", err)
	}
	return text, nil
}
