package readme

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// bodies are the types behind the examples of docs/protocol.md. An example has
// to survive a round trip through its type: every member is known, and none that
// is always there is missing.
var bodies = map[string]func() any{
	"puback":     func() any { return new(puback) },
	"cancel":     func() any { return new(cancel) },
	"accepted":   func() any { return new(op.Accepted) },
	"waited":     func() any { return new(submitter.Waited) },
	"error":      func() any { return new(op.Error) },
	"head":       func() any { return new(resolver.Head) },
	"record":     func() any { return new(op.Record) },
	"event":      func() any { return new(op.Event) },
	"work":       func() any { return new(op.Work) },
	"result":     func() any { return new(op.Result) },
	"result_ack": func() any { return new(op.ResultAck) },
	"step":       func() any { return new(arbiter.Step) },

	"api_cancel":        func() any { return new(submitter.Cancellation) },
	"control":           func() any { return new(bus.Control) },
	"dead":              func() any { return new(op.Dead) },
	"retried":           func() any { return new(submitter.Retried) },
	"forecast":          func() any { return new(op.Forecast) },
	"load":              func() any { return new(bus.Load) },
	"bulk_response":     func() any { return new(submitter.BulkAnswer) },
	"policy_refused":    func() any { return new(bus.PolicyRefusal) },
	"beat":              func() any { return new(op.Beat) },
	"handler_request":   func() any { return new(handlerRequest) },
	"handler_response":  func() any { return new(handlerResponse) },
	"handler_heartbeat": func() any { return new(handlerHeartbeat) },
}

// puback is what the server answers; the client library's type has members that
// are mostly absent.
type puback struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
}

// cancel is the body of a cancellation, as the resolver reads it.
type cancel struct {
	OpID    string `json:"op_id,omitempty"`
	All     bool   `json:"all,omitempty"`
	Cascade *bool  `json:"cascade,omitempty"`
}

// handlerRequest, handlerResponse and handlerHeartbeat are what goes between an
// executor and a handler. TestProtocolHandler has a real executor send and read
// them.
type (
	handlerRequest struct {
		Type      string          `json:"type"`
		Operation op.Operation    `json:"operation"`
		Entity    json.RawMessage `json:"entity"`
		Attempt   int             `json:"attempt"`
		Deadline  time.Time       `json:"deadline"`
		LeaseMS   int64           `json:"lease_ms"`
		Key       string          `json:"idempotency_key"`
		Heartbeat string          `json:"heartbeat_subject"`
	}
	handlerResponse struct {
		Type   string           `json:"type"`
		Effect *executor.Effect `json:"effect,omitempty"`
		Error  *handlerMistake  `json:"error,omitempty"`
	}
	handlerMistake struct {
		Code     string `json:"code"`
		Message  string `json:"message"`
		Terminal bool   `json:"terminal"`
	}
	handlerHeartbeat struct {
		Type     string `json:"type"`
		Accepted bool   `json:"accepted"`
		LeaseMS  int64  `json:"lease_ms"`
	}
)

// names are the values of "type" and "schema" of the bodies that have one.
var names = map[string]string{
	"accepted": op.AcceptedType, "waited": op.AcceptedType, "error": op.ErrorType, "record": op.RecordType, "event": op.EventType,
	"work": op.WorkType, "result": op.ResultType, "result_ack": op.AckType, "step": arbiter.StepSchema, "beat": op.BeatType,
	"dead": op.DeadType, "retried": op.AcceptedType, "forecast": op.ForecastType, "load": bus.LoadType, "bulk_response": submitter.BulkType,
	"policy_refused": bus.PolicyRefusalType, "handler_request": executor.RequestType, "handler_response": executor.ResponseType,
	"handler_heartbeat": executor.PulseType,
}

// TestExamples reads every JSON example of the protocol strictly.
func TestExamples(t *testing.T) {
	p := read(t, "docs/protocol.md")
	seen := map[string]bool{}
	for i := range p.blocks {
		b := &p.blocks[i]
		kind, ok := strings.CutPrefix(b.info, "json")
		if !ok {
			continue
		}
		kind, code, _ := strings.Cut(strings.TrimSpace(kind), " ")
		seen[kind] = true
		if err := checkExample(kind, code, []byte(b.text)); err != nil {
			t.Errorf("%s:%d: %s: %v", p.name, b.line, b.info, err)
		}
	}
	for kind := range bodies {
		if !seen[kind] {
			t.Errorf("%s has no example of %s", p.name, kind)
		}
	}
	for _, kind := range []string{"operation", "operations", "bulk", "refused"} {
		if !seen[kind] {
			t.Errorf("%s has no example of %s", p.name, kind)
		}
	}
}

func checkExample(kind, code string, data []byte) error {
	switch kind {
	case "operation", "operations":
		ops, err := op.Decode(data, "door-1", op.BuiltinTypes())
		return checkOperations(ops, err)
	case "bulk":
		ops, errs, err := op.DecodeBulk(data, op.BuiltinTypes())
		for _, e := range errs {
			if e != nil {
				return e
			}
		}
		for i := range ops {
			if bus.PartitionOf(ops[i].Target, 16) != bus.PartitionOf(ops[0].Target, 16) {
				return fmt.Errorf("%s lies in another partition than %s", ops[i].Target, ops[0].Target)
			}
		}
		return checkOperations(ops, err)
	case "refused":
		_, err := op.Decode(data, "", op.BuiltinTypes())
		if e := op.AsError(err); e == nil || e.Code != code {
			return fmt.Errorf("the page says refused with %s: %w", code, err)
		}
		return nil
	}
	make, ok := bodies[kind]
	if !ok {
		return fmt.Errorf("no test knows what %q is", kind)
	}
	return roundTrip(make(), names[kind], data)
}

// checkOperations asks for the params, too, as the edge does.
func checkOperations(ops []op.Operation, err error) error {
	if err != nil {
		return err
	}
	for i := range ops {
		if e := entity.CheckParams(&ops[i]); e != nil {
			return e
		}
	}
	return nil
}

func roundTrip(v any, name string, data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	again, err := op.Marshal(v)
	if err != nil {
		return err
	}
	var want, got any
	if err := json.Unmarshal(data, &want); err != nil {
		return err
	}
	if err := json.Unmarshal(again, &got); err != nil {
		return err
	}
	if d := cmp.Diff(want, got); d != "" {
		return fmt.Errorf("it does not survive a round trip (- the page, + our type):\n%s", d)
	}
	if m, ok := want.(map[string]any); ok && name != "" && m["type"] != name && m["schema"] != name {
		return fmt.Errorf("its type is not %s", name)
	}
	return nil
}

// canonical is JSON in a form that can be compared.
func canonical(t *testing.T, data []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	out, err := op.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestChanges compares the table of the members of a change, and the kinds.
func TestChanges(t *testing.T) {
	rows := read(t, "docs/protocol.md").table(t, "### Changes")
	var listed []string
	for _, r := range rows {
		for m := range strings.SplitSeq(r[0], ", ") {
			listed = append(listed, strings.Trim(m, "`"))
		}
	}
	same(t, "members of a change", listed, tags(entity.Change{}))
	var there []string
	for _, k := range []entity.Kind{
		entity.Created, entity.Modified, entity.Versioned, entity.Borrowed, entity.Promoted,
		entity.Detached, entity.Attached, entity.Deleted, entity.Noted,
	} {
		there = append(there, string(k))
	}
	kinds := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(rows[0][2], -1)
	var told []string
	for _, k := range kinds {
		told = append(told, k[1])
	}
	same(t, "kinds of changes", told, there)
}

// words are what stands in marks of code in a cell.
func words(cell string) []string {
	var all []string
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch("`"+strings.Trim(cell, "`")+"`", -1) {
		all = append(all, m[1])
	}
	return all
}

// TestMembers compares the tables of members with the types behind them.
func TestMembers(t *testing.T) {
	p := read(t, "docs/protocol.md")
	for _, c := range []struct {
		what, head string
		column     int // that names the members
		there      []string
	}{
		{"members of a record", "| member | meaning |", 0, tags(op.Record{})},
		{"members of an effect of a handler", "| member of an effect | meaning |", 0, tags(executor.Effect{})},
		{"inputs of a step", "| input | is |", 0, tags(arbiter.Input{})},
		{"effects of a step", "| effect | the operation | and |", 0, tags(arbiter.Effect{})},
	} {
		var listed []string
		for _, r := range p.tableAt(t, c.head) {
			listed = append(listed, words(r[c.column])...)
		}
		same(t, c.what, listed, c.there)
	}
	known, named := map[string]bool{}, map[string]bool{}
	for _, name := range tags(op.Event{}) {
		known[name] = true
	}
	var events []string
	for _, r := range p.tableAt(t, "| event | members |") {
		for _, m := range regexp.MustCompile("`([a-z_]+\\.[a-z_]+)`").FindAllStringSubmatch(r[0], -1) {
			events = append(events, m[1])
		}
		if strings.Contains(r[0], ".") && !strings.Contains(r[0], "`") {
			events = append(events, r[0])
		}
		for _, w := range words(r[1]) {
			named[w] = true
			if !known[w] && r[0] != "operation.conflict" {
				t.Errorf("an event has no member %s", w)
			}
		}
	}
	for name := range known {
		if !named[name] {
			t.Errorf("no event of the table has %s", name)
		}
	}
	var there []string
	for _, e := range op.EventNames() {
		if !strings.HasPrefix(string(e), "entity.") {
			there = append(there, string(e))
		}
	}
	same(t, "events with members", events, append(there, "entity.*"))
}

// TestCodes compares the table of error codes with the catalogue, word by word.
func TestCodes(t *testing.T) {
	var listed, there []string
	for _, r := range read(t, "docs/protocol.md").table(t, "## Error codes") {
		listed = append(listed, r[0]+" "+r[1])
	}
	for _, e := range op.Errors() {
		there = append(there, e.Code+" "+e.Text)
	}
	same(t, "error codes", listed, there)
}

// TestLimits compares the table of limits with the constants.
func TestLimits(t *testing.T) {
	kib := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	there := []string{
		"body of a submission " + kib(op.MaxBody),
		fmt.Sprintf("nested objects and arrays %d", op.MaxDepth),
		"one string " + kib(op.MaxString),
		fmt.Sprintf("an id %d characters", op.MaxToken),
		fmt.Sprintf("operations of an array %d", op.MaxArray),
		fmt.Sprintf("operations of a bulk %d", op.MaxBulk),
		"body of a bulk " + kib(op.MaxBulkBody),
		fmt.Sprintf("labels of an operation %d", op.MaxLabels),
		fmt.Sprintf("max_retries %d", op.MaxRetry),
		"the policy " + kib(arbiter.MaxPolicyBytes),
		"schema of a type " + kib(registry.MaxSchemaBytes),
		"answer of a handler " + kib(executor.MaxResponse),
		fmt.Sprintf("fields of an entity %d", entity.MaxFields),
		fmt.Sprintf("name of a field %d bytes", entity.MaxFieldName),
		"names and values of an entity together " + kib(entity.MaxSize),
		fmt.Sprintf("children of an entity %d", entity.MaxChildren),
		fmt.Sprintf("levels of a tree %d", entity.MaxDepth),
	}
	var listed []string
	for _, r := range read(t, "docs/protocol.md").table(t, "## Limits") {
		listed = append(listed, r[0]+" "+r[1])
	}
	same(t, "limits", listed, there)
}

// TestSubjects compares the subjects of the table with those that the programs
// build. Placeholders become values.
func TestSubjects(t *testing.T) {
	fill := strings.NewReplacer("<target>", "door-1", "<pool>", "default", "<type>", "modify_field", "<partition>", "7", "<op>", "paint-1", "<id>", "door-1",
		"<name>", "operation.rejected", "<address>", "@door-1", "<role>", "executor", "<token>", "0")
	var listed []string
	for _, r := range read(t, "docs/protocol.md").table(t, "## Subjects") {
		for _, m := range regexp.MustCompile("`?((?:ops|\\$KV)\\.[^`, ]+)`?").FindAllStringSubmatch(r[0], -1) {
			listed = append(listed, fill.Replace(m[1]))
		}
	}
	there := []string{
		bus.SubmitSubject("door-1"), bus.BulkSubject("door-1"), bus.CancelSubject("door-1"), bus.FollowSubject("door-1"),
		"ops.control.0", bus.APISubject("submit"), bus.APISubject("bulk"), bus.APISubject("cancel"), bus.APISubject("help"),
		bus.APISubject("whatif"), bus.APISubject("retry"), bus.APISubject("operation", "paint-1"), bus.APISubject("status", "paint-1"),
		bus.APISubject("explain", "paint-1"), bus.APISubject("entity", "@door-1"), bus.APISubject("history", "door-1"),
		bus.APISubject("lineage", "door-1"), bus.APISubject("stats"), bus.APISubject("health"),
		bus.APISubject("executing"), bus.APISubject("trace"), "ops.ctl.executor.status",
		bus.EventSubject(op.EventRejected, "door-1"), bus.WorkSubject(op.DefaultPool, "modify_field", 7, "door-1"), bus.ResultSubject(7),
		executor.HandlerSubject("modify_field"), bus.LoadSubject(7), bus.WhatIfSubject(7), bus.JournalSubject(7),
		bus.EntityMsg("door-1", nil).Subject, bus.RecordMsg("paint-1", nil).Subject, bus.DeadMsg("paint-1", nil).Subject,
		"$KV.OPS_CONFIG.policy", "$KV.OPS_CONFIG.policy.refused",
	}
	same(t, "subjects", listed, there)
	if p := bus.PartitionOf("door-1", 16); p != 7 {
		t.Errorf("the story of the page is in partition 7, the door in %d", p)
	}
	if !slices.Contains(tags(op.Work{}), "lease") {
		t.Error("work has no lease any more")
	}
}
