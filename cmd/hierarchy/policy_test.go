package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
)

func TestPut(t *testing.T) {
	set := map[string]json.RawMessage{}
	for _, c := range []struct{ key, value, want string }{
		{"staging_window", "5ms", `{"staging_window":"5ms"}`},
		{"types.resize.pool", "gpu", `{"staging_window":"5ms","types":{"resize":{"pool":"gpu"}}}`},
		{"types.resize.max_retries", "7", `{"staging_window":"5ms","types":{"resize":{"max_retries":7,"pool":"gpu"}}}`},
		{"types.resize.pool", "", `{"staging_window":"5ms","types":{"resize":{"max_retries":7}}}`},
		{"staging_window", "", `{"types":{"resize":{"max_retries":7}}}`},
		{"types.resize.max_retries", "", `{}`},
		{"no.such", "", `{}`},
	} {
		if err := put(set, strings.Split(c.key, "."), c.value); err != nil {
			t.Fatal(err)
		}
		if got, _ := json.Marshal(set); string(got) != c.want {
			t.Errorf("%s=%s gives %s, want %s", c.key, c.value, got, c.want)
		}
	}
	set["staging_window"] = json.RawMessage(`"5ms"`)
	if err := put(set, []string{"staging_window", "deeper"}, "1"); err == nil {
		t.Error("a text got a member")
	}
	set["paused"] = json.RawMessage(`null`)
	if err := put(set, []string{"paused", "types"}, `["x"]`); err != nil || string(set["paused"]) != `{"types":["x"]}` {
		t.Errorf("what was null is %s, %v", set["paused"], err)
	}
}

// TestChanges tells two policies apart as a person would: field by field, with
// the defaults of what is not set.
func TestChanges(t *testing.T) {
	policy := func(text string) *storedPolicy {
		p, err := parsePolicy([]byte(text), 1)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	before := policy(`{"staging_window":"5ms","max_staged_per_target":10,"window_by_prefix":{"a-":"1s"},"types":{"x":{"schema":{"type":"object"}}}}`)
	after := policy(`{"staging_window": "5ms","grace_period":"1s","window_by_prefix":{"a-":"2s","b-":"1s"},"types":{"x":{"schema":{"type": "object","required":["n"]}}}}`)
	var got []string
	for _, c := range changes(before, after) {
		got = append(got, c.String())
	}
	want := []string{
		`grace_period: 100ms (default) → 1s`,
		`max_staged_per_target: 10 → 2000 (default)`,
		`types.x.schema: {"type":"object"} → {"type":"object","required":["n"]}`,
		`window_by_prefix.a-: 1s → 2s`,
		`window_by_prefix.b-: nothing → 1s`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if same := changes(before, before); len(same) != 0 {
		t.Errorf("a policy differs from itself: %v", same)
	}
}

// TestDefaults: what config get --all prints is accepted and changes nothing, and
// no field of the policy is left out that has a default of its own.
func TestDefaults(t *testing.T) {
	for _, text := range []string{`{}`, `{"conflict_check_interval":"10ms"}`} {
		p, err := parsePolicy([]byte(text), 0)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(p.effective())
		if err != nil {
			t.Fatal(err)
		}
		got, err := arbiter.ParsePolicy(data, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(arbiter.DefaultPolicy(), got); d != "" {
			t.Errorf("%s: what is printed is not the default policy:\n%s", text, d)
		}
	}
	for name := range schemaProperties(t) {
		_, has := defaults()[name]
		// max_concurrent_operations is another way to say what has a default.
		none := slices.Contains([]string{"window_by_type", "window_by_prefix", "aging", "paused", "submitters", "types", "max_concurrent_operations"}, name)
		if has == none {
			t.Errorf("%s: default %v", name, has)
		}
	}
}

func schemaProperties(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(policySchema, &s); err != nil {
		t.Fatal(err)
	}
	return s.Properties
}

// TestPolicySchema asks the schema and the parser about the same policies: what
// one takes the other has to take.
func TestPolicySchema(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(policySchema, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	agree := func(text string, want bool) {
		t.Helper()
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		byParser, bySchema := checkPolicy([]byte(text), 1), resolved.Validate(v)
		if (byParser == nil) != want || (bySchema == nil) != want {
			t.Errorf("%s: the parser says %v, the schema %v", text, byParser, bySchema)
		}
	}
	for _, good := range []string{
		`{}`,
		`{"staging_window":"0s","window_by_type":{"modify_field":"1m30s"},"window_by_prefix":{"a-":"1.5s"}}`,
		`{"preemption":"after_grace","max_preemptions":0,"priority_out_of_range":"refuse"}`,
		`{"aging":{"every":"10s","step":1,"max":9},"paused":{"types":["x"],"targets":["a","b-*","*"]}}`,
		`{"submitters":{"night shift":{"min":1,"max":"HIGH"}}}`,
		`{"types":{"resize":{"schema":{"type":"object"},"pool":"gpu","priority":"LOW","min_priority":1,"max_priority":5,"max_retries":0,"on_conflict":"coalesce","staging_window":"1s","attempt_timeout":"100ms"}}}`,
		`{"max_concurrent_operations":1,"event_bus_buffer_size":1000000,"metrics_collection_interval":"100ms","max_memory_mb":64}`,
		`{"operation_queue_size":1,"max_executing_per_partition":1,"max_staged_per_target":2000,"default_max_retries":1000}`,
	} {
		agree(good, true)
	}
	for _, bad := range []string{
		`{"no_such_rule":1}`, `{"staging_window":10}`, `{"staging_window":"soon"}`, `{"staging_window":"-1s"}`,
		`{"max_concurrent_operations":0}`, `{"event_bus_buffer_size":1000001}`, `{"max_memory_mb":63}`,
		`{"max_staged_per_target":0}`, `{"max_staged_per_target":2001}`, `{"operation_queue_size":0}`, `{"default_max_retries":-1}`,
		`{"preemption":"always"}`, `{"priority_out_of_range":"ignore"}`, `{"aging":{"every":"10s","step":0,"max":1}}`,
		`{"aging":{"every":"10s","step":1,"max":10}}`, `{"paused":{"targets":["a.b"]}}`, `{"paused":{"all":true}}`,
		`{"submitters":{"x":{"min":11}}}`, `{"types":{"a.b":{}}}`, `{"types":{"x":{"on_conflict":"fight"}}}`, `{"types":{"x":{"pool":"a b"}}}`,
		`{"types":{"x":{"no_such":1}}}`, `{"types":{"x":{"priority":0}}}`,
	} {
		agree(bad, false)
	}
	// Every field is known to the parser, which names one that it does not know.
	names := slices.Sorted(maps.Keys(schemaProperties(t)))
	for _, name := range append(names, "no_such_rule") {
		_, err := arbiter.ParsePolicy([]byte(`{"`+name+`":null}`), 0)
		if unknown := err != nil && strings.Contains(err.Error(), "unknown field"); unknown != (name == "no_such_rule") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
