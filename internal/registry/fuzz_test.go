package registry_test

import (
	"encoding/json"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// FuzzSchema: whatever an operator registers as a schema, and whatever a client
// sends as params, is accepted or refused with a code, the same way each time.
func FuzzSchema(f *testing.F) {
	for _, c := range [][2]string{
		{`{"type":"object","required":["a"],"properties":{"a":{"type":"integer","minimum":1}},"additionalProperties":false}`, `{"a":0}`},
		{`{"$defs":{"x":{"type":"array","items":{"$ref":"#/$defs/x"},"maxItems":2}},"properties":{"a":{"$ref":"#/$defs/x"}}}`, `{"a":[[],[[]]]}`},
		{`{"properties":{"a":{"pattern":"^(a+)+$","enum":["a",1,null],"oneOf":[{"type":"string"},{"const":3}]}}}`, `{"a":"aaaaaaaaab"}`},
		{`{"$ref":"#"}`, `{}`},
		{`{"type":"nothing"}`, `{}`},
		{`true`, `{"a":1}`},
		{`false`, ``},
		{`{"$ref":"http://example.org/x"}`, `{}`},
		{`{"if":{},"then":false}`, `{"a":{"b":[]}}`},
		{`{"multipleOf":0}`, `{}`},
		{`{"properties":{"a":{"multipleOf":0.1}}}`, `{"a":1e308}`},
		{`[`, `[`},
	} {
		f.Add([]byte(c[0]), []byte(c[1]))
	}
	f.Fuzz(func(t *testing.T, schema, params []byte) {
		if !json.Valid(schema) || len(params) > 0 && !json.Valid(params) {
			return // the parser of policies and the codec have seen them
		}
		p := arbiter.DefaultPolicy()
		p.Types = map[string]arbiter.TypePolicy{"paint": {Schema: schema}}
		r, err := registry.New(p)
		if err != nil {
			if e := op.AsError(err); e == nil || e.Code != op.CodeBadPolicy || e.Message == "" {
				t.Fatalf("%s is refused with %#v", schema, err)
			}
			return
		}
		o := op.Operation{ID: "a", Type: "paint", Target: "door", Params: params}
		first, second := r.Check(&o), r.Check(&o)
		if (first == nil) != (second == nil) {
			t.Fatalf("%s, %s: %v, then %v", schema, params, first, second)
		}
		if first != nil && (first.Code != op.CodeBadParams || first.Message == "" || first.Message != second.Message || first.Field != second.Field) {
			t.Fatalf("%s, %s: refused with %+v, then %+v", schema, params, first, second)
		}
	})
}
