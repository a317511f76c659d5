package main

import (
	"maps"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// FuzzConfig: a policy and key=value on the command line make another policy or an
// error that says why. What was not named stays, and setting it again changes
// nothing.
func FuzzConfig(f *testing.F) {
	for _, c := range [][3]string{
		{`{"staging_window":"5ms"}`, "staging_window", "1ms"},
		{`{}`, "types.paint.pool", "gpu"},
		{`{"types":{"paint":{"pool":"a"}}}`, "types.paint.pool", ""},
		{`{"paused":{"types":["x"]}}`, "paused.targets", `["a-*"]`},
		{`{"paused":null}`, "paused.targets", `["a"]`},
		{`{"grace_period":"1s"}`, "grace_period.x", "1"},
		{``, "retry_max_delay", "9s"},
		{`[]`, "a", "b"},
		{`{"a":1}`, ".", "1"},
		{`{}`, "types.a.b.c..d", "{"},
		{`{}`, "submitters.ann", `{"min":1,"max":"HIGH"}`},
	} {
		f.Add([]byte(c[0]), c[1], c[2])
	}
	f.Fuzz(func(t *testing.T, data []byte, key, value string) {
		before, err := parsePolicy(data, 3)
		if (err != nil) != (before.invalid != "") {
			t.Fatalf("%s: %v, noted is %q", data, err, before.invalid)
		}
		if before.set == nil || key == "" {
			return
		}
		set := maps.Clone(before.set)
		path := strings.Split(key, ".")
		if err := put(set, path, value); err != nil {
			return
		}
		once, err := op.Marshal(set)
		if err != nil {
			t.Fatalf("%s with %s=%s cannot be written: %v", data, key, value, err)
		}
		for k, v := range before.set {
			if k != path[0] && string(set[k]) != string(v) {
				t.Fatalf("%s with %s=%s changes %s", data, key, value, k)
			}
		}
		if err := put(set, path, value); err != nil {
			t.Fatalf("%s with %s=%s cannot be set again: %v", data, key, value, err)
		}
		if twice, err := op.Marshal(set); err != nil || string(once) != string(twice) {
			t.Fatalf("%s with %s=%s is %s, and set again %s", data, key, value, once, twice)
		}
		after, err := parsePolicy(once, 4)
		if err == nil && before.invalid == "" {
			changes(before, after)
		}
	})
}
