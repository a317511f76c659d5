package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/guess"
)

// policyNode is as much of the policy's JSON Schema as tells where a value stands
// that does not fit.
type policyNode struct {
	Ref        string                 `json:"$ref"`
	Type       string                 `json:"type"`
	Properties map[string]*policyNode `json:"properties"`
	Additional json.RawMessage        `json:"additionalProperties"` // false, or the schema of every other member
	Items      *policyNode            `json:"items"`
	Enum       []string               `json:"enum"`
	Defs       map[string]*policyNode `json:"$defs"`
}

const durationRef = "#/$defs/duration"

// policyMistake says in the words of whoever writes a policy what the parser says in
// those of its own types: the field with its whole path, and what it takes. Other
// errors stay as they are.
func policyMistake(data []byte, err error) string {
	text := strings.TrimPrefix(err.Error(), "arbiter: policy: ")
	var kind *json.UnmarshalTypeError
	if !errors.As(err, &kind) && !strings.Contains(text, "unknown field") && !strings.Contains(text, "a duration") {
		return text
	}
	var root policyNode
	if json.Unmarshal(policySchema, &root) != nil {
		return text
	}
	if found := root.misfit(root.Defs, bytes.TrimSpace(data), ""); found != "" {
		return found
	}
	return text
}

// misfit describes the first value that does not fit, in the order of the names; "":
// none.
func (n *policyNode) misfit(defs map[string]*policyNode, v json.RawMessage, path string) string {
	if string(v) == "null" { // as if it were not there
		return ""
	}
	if n.Ref == durationRef {
		return badDuration(v, path)
	}
	if d := defs[strings.TrimPrefix(n.Ref, "#/$defs/")]; d != nil {
		n = d
	}
	if len(n.Enum) > 0 && v[0] != '"' {
		return fmt.Sprintf("%s takes one of %s, not %.40s", path, strings.Join(n.Enum, ", "), v)
	}
	if !n.takes(v) {
		return n.refusal(v, path)
	}
	switch n.Type {
	case "object":
		return n.member(defs, v, path)
	case "array":
		var all []json.RawMessage
		if n.Items == nil || json.Unmarshal(v, &all) != nil {
			return ""
		}
		for i, one := range all {
			if found := n.Items.misfit(defs, one, fmt.Sprintf("%s.%d", path, i)); found != "" {
				return found
			}
		}
	}
	return ""
}

// member looks into an object.
func (n *policyNode) member(defs map[string]*policyNode, v json.RawMessage, path string) string {
	var all map[string]json.RawMessage
	if json.Unmarshal(v, &all) != nil {
		return ""
	}
	var other *policyNode
	closed := string(n.Additional) == "false"
	if len(n.Additional) > 0 && !closed && json.Unmarshal(n.Additional, &other) != nil {
		return ""
	}
	for _, name := range sortedKeys(all) {
		next := n.Properties[name]
		switch {
		case next == nil && closed:
			where := "a policy"
			if path != "" {
				where = path
			}
			return fmt.Sprintf("%s has no field %.80q%s", where, name, guess.Name(name, sortedKeys(n.Properties)))
		case next == nil:
			next = other
		}
		if next == nil {
			continue
		}
		if found := next.misfit(defs, all[name], strings.TrimPrefix(path+"."+name, ".")); found != "" {
			return found
		}
	}
	return ""
}

// takes reports whether a value has the type.
func (n *policyNode) takes(v json.RawMessage) bool {
	switch n.Type {
	case "object":
		return v[0] == '{'
	case "array":
		return v[0] == '['
	case "string":
		return v[0] == '"'
	case "integer":
		_, whole := new(big.Int).SetString(string(v), 10)
		return whole
	}
	return true
}

// refusal says what a field takes, and what it got.
func (n *policyNode) refusal(v json.RawMessage, path string) string {
	want := map[string]string{"object": "an object", "array": "an array", "string": "a text", "integer": "a whole number"}[n.Type]
	got := fmt.Sprintf("%.40s", v)
	switch v[0] {
	case '{':
		got = "an object"
	case '[':
		got = "an array"
	}
	if path == "" {
		return fmt.Sprintf("the policy is %s, not %s", want, got)
	}
	text := fmt.Sprintf("%s takes %s, not %s", path, want, got)
	if strings.HasPrefix(got, `"{`) || strings.HasPrefix(got, `"[`) { // it was meant as JSON
		text += "; a value that is not valid JSON is taken as text"
	}
	return text
}

func badDuration(v json.RawMessage, path string) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		if d, err := time.ParseDuration(s); err == nil && d >= 0 {
			return ""
		}
	}
	return fmt.Sprintf("%s takes a duration such as %q, not %.40s", path, "10ms", v)
}

// notAnObject is the error for a text that is no policy at all.
func notAnObject(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		err = fmt.Errorf("the policy is not a JSON object: it is of the type %s", kind.Value)
	} else {
		err = fmt.Errorf("the policy is not a JSON object: %w", err)
	}
	return withHint(err, "`hierarchy config get -o json` prints one, and `hierarchy schema policy` describes every field")
}
