package readme

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestReadme runs every command of the README and compares every output.
func TestReadme(t *testing.T) {
	start(t, read(t, "README.md")).run()
}

// same compares what a page lists with what there is.
func same(t *testing.T, what string, listed, there []string) {
	t.Helper()
	if d := cmp.Diff(slices.Sorted(slices.Values(there)), slices.Sorted(slices.Values(listed))); d != "" {
		t.Errorf("%s (- what there is, + what the page lists):\n%s", what, d)
	}
}

// tags are the names of a struct's fields on the wire.
func tags(v any) []string {
	var names []string
	for f := range reflect.TypeOf(v).Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// TestFields compares the table of fields with the operation. The schema is not
// kept with it.
func TestFields(t *testing.T) {
	rows := read(t, "README.md").table(t, "## Operations")
	same(t, "fields", column(rows, 0), append(tags(op.Operation{}), "schema"))
}

// TestTypes compares the table of types, their priorities and retries.
func TestTypes(t *testing.T) {
	p := read(t, "README.md")
	_, rest, _ := strings.Cut(p.text, "An id is 1 to 64 characters")
	second := page{name: p.name, text: "\n## Types\n" + rest}
	var listed, there []string
	for _, r := range second.table(t, "## Types") {
		listed = append(listed, strings.Join(r[:3], " "))
	}
	for _, x := range op.BuiltinTypes() {
		if !x.Internal {
			there = append(there, fmt.Sprintf("%s %s %d", x.Name, x.Priority, x.MaxRetries))
		}
	}
	same(t, "types", listed, there)
}

// TestReasons compares the table of reasons and codes.
func TestReasons(t *testing.T) {
	var listed, there []string
	for _, r := range read(t, "README.md").table(t, "### Reasons") {
		listed = append(listed, r[0]+" "+r[1])
	}
	for _, r := range op.Reasons() {
		there = append(there, string(r.Reason)+" "+r.Code)
	}
	same(t, "reasons", listed, there)
}

// TestEvents compares the table of events.
func TestEvents(t *testing.T) {
	var there []string
	for _, e := range op.EventNames() {
		there = append(there, string(e))
	}
	same(t, "events", column(read(t, "README.md").table(t, "### Events"), 0), there)
}

// TestExitCodes compares the table with what the program says of itself.
func TestExitCodes(t *testing.T) {
	out, err := exec.Command(filepath.Join(programs, "hierarchy"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), "Exit codes:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	var listed, there []string
	for _, m := range regexp.MustCompile(`(\d+) (.*?)(?:   |\n|$)`).FindAllStringSubmatch(text, -1) {
		there = append(there, m[1]+" "+strings.TrimSpace(m[2]))
	}
	for _, r := range read(t, "README.md").table(t, "### Exit codes") {
		listed = append(listed, strings.Join(r, " "))
	}
	same(t, "exit codes", listed, there)
}

// TestPolicy reads each field of the table alone, with the default that stands
// there: it must be accepted and change nothing. The names must be all there are.
func TestPolicy(t *testing.T) {
	rows := read(t, "README.md").table(t, "## Configuration")
	same(t, "fields of the policy", column(rows, 0), slices.Sorted(maps.Keys(policySchema(t))))
	for _, r := range rows {
		got, err := arbiter.ParsePolicy([]byte(`{"`+r[0]+`":`+r[1]+`}`), 0)
		if err != nil {
			t.Errorf("%s: %v", r[0], err)
		}
		if d := cmp.Diff(arbiter.DefaultPolicy(), got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s does not have the default %s:\n%s", r[0], r[1], d)
		}
	}
}

// member is one field in a JSON Schema.
type member struct {
	AdditionalProperties json.RawMessage   `json:"additionalProperties"`
	Properties           map[string]member `json:"properties"`
}

// policySchema is what the program says about the fields of the policy.
func policySchema(t *testing.T) map[string]member {
	t.Helper()
	out, err := exec.Command(filepath.Join(programs, "hierarchy"), "schema", "policy").Output()
	if err != nil {
		t.Fatal(err)
	}
	var m member
	if err := json.Unmarshal(out, &m); err != nil || len(m.Properties) == 0 {
		t.Fatalf("the schema of the policy cannot be read: %v", err)
	}
	return m.Properties
}

// TestTypeFields compares the table of what can be said about a type.
func TestTypeFields(t *testing.T) {
	var one member
	if err := json.Unmarshal(policySchema(t)["types"].AdditionalProperties, &one); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, r := range read(t, "README.md").tableAt(t, "| field of a type | default | meaning |") {
		listed = append(listed, words(r[0])...)
	}
	same(t, "fields of a type", listed, slices.Sorted(maps.Keys(one.Properties)))
}

// TestPolicyExamples reads the policies that stand in the table as examples.
func TestPolicyExamples(t *testing.T) {
	n := 0
	for _, r := range read(t, "README.md").table(t, "## Configuration") {
		for _, m := range regexp.MustCompile("`([{\"][^`]+)`").FindAllStringSubmatch(r[2], -1) {
			n++
			got, err := arbiter.ParsePolicy([]byte(`{"`+r[0]+`":`+m[1]+`}`), 0)
			if err != nil || cmp.Equal(arbiter.DefaultPolicy(), got) {
				t.Errorf("%s: %s: %v", r[0], m[1], err)
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d examples were found", n)
	}
}

var put = regexp.MustCompile(`nats kv put OPS_CONFIG policy '([^']*)'`)

// TestPolicies reads every policy that a page has its readers store. A resolver
// that refuses one only says so in its log.
func TestPolicies(t *testing.T) {
	n := 0
	for _, name := range []string{"README.md", "docs/operations.md"} {
		for _, m := range put.FindAllStringSubmatch(read(t, name).text, -1) {
			n++
			if p, err := arbiter.ParsePolicy([]byte(m[1]), 0); err != nil || cmp.Equal(p, arbiter.DefaultPolicy()) && m[1] != "{}" {
				t.Errorf("%s: %s: %v", name, m[1], err)
			}
		}
	}
	if n == 0 {
		t.Error("no page shows how to set the policy")
	}
}

// TestSubmissions reads every operation that the README submits, as a submitter
// does.
func TestSubmissions(t *testing.T) {
	n := 0
	for _, m := range regexp.MustCompile(`\{"op_id":.*\}`).FindAllString(read(t, "README.md").text, -1) {
		var names map[string]json.RawMessage
		if err := json.Unmarshal([]byte(m), &names); err != nil {
			t.Errorf("%s: %v", m, err)
			continue
		}
		if slices.Sorted(maps.Keys(names))[0] == "op_id" && len(names) == 1 {
			continue // a cancellation
		}
		target := ""
		if names["target_entity_id"] == nil {
			target = "user-42"
		}
		if _, err := op.Decode([]byte(m), target, op.BuiltinTypes()); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		n++
	}
	if n < 5 {
		t.Errorf("only %d operations were found", n)
	}
}
