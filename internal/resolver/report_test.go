package resolver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// A report comes from anybody. What it brings is in the journal for ever, so it
// has to be something that can be read again.
func TestAChangeThatCannotBeReadAgainIsNotLetIn(t *testing.T) {
	value := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for name, c := range map[string]struct {
		change string
		why    string
	}{
		"as deep as a value may be": {`{"kind":"modified","set":{"f":` + value(op.MaxDepth) + `}}`, ""},
		"brackets in a text":        {`{"kind":"noted","note":"` + strings.Repeat(`[\"`, 5000) + `"}`, ""},
		"too deep":                  {`{"kind":"modified","set":{"f":` + value(op.MaxDepth+8) + `}}`, "nested deeper"},
		"as deep as the decoder":    {`{"kind":"modified","set":{"f":` + value(9996) + `}}`, "nested deeper"},
		"not UTF-8":                 {`{"kind":"noted","note":"` + "\xff" + `"}`, "not UTF-8"},
	} {
		r := arbiter.Result{OpID: "a", Target: "t", Attempt: 1, Change: json.RawMessage(c.change)}
		limit(&r)
		if c.why == "" && r.Failure != nil {
			t.Errorf("%s: %v", name, r.Failure)
		}
		if c.why != "" && (r.Failure == nil || !r.Failure.Terminal || r.Change != nil || !strings.Contains(r.Failure.Message, c.why)) {
			t.Errorf("%s: let in: %+v", name, r.Failure)
		}
		step, err := op.Marshal(&arbiter.Step{Schema: arbiter.StepSchema, In: []arbiter.Input{{Result: &r}}})
		if err == nil {
			err = json.Unmarshal(step, new(arbiter.Step))
		}
		if err != nil {
			t.Errorf("%s: the step cannot be read again: %v", name, err)
		}
	}
}

// Why an operation ended is the resolver's to say, but for what only whoever
// carries it out can see.
func TestAReasonOutsideOfAnExecutorsIsNotLetIn(t *testing.T) {
	for said, want := range map[op.Reason]op.Reason{
		op.StaleVersion: op.StaleVersion, op.Invalid: op.Invalid, "": "",
		op.LowerPriority: "", op.CancelledByRequest: "", "because": "", "\xff": "",
	} {
		r := arbiter.Result{OpID: "a", Target: "t", Attempt: 1, Failure: &op.Failure{Code: "no", Terminal: true, Reason: said}}
		if limit(&r); r.Failure.Reason != want {
			t.Errorf("%q became %q, want %q", said, r.Failure.Reason, want)
		}
	}
}
