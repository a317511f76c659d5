package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// with returns the policy that registers the type charge with a schema.
func with(t *testing.T, schema string) arbiter.Policy {
	t.Helper()
	p, err := arbiter.ParsePolicy(fmt.Appendf(nil, `{"types":{"charge":{"schema":%s,"pool":"billing","priority":7,"max_retries":9}}}`, schema), 5)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func compiled(t *testing.T, schema string) *registry.Registry {
	t.Helper()
	r, err := registry.New(with(t, schema))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const charge = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"required": ["amount", "currency"],
	"additionalProperties": false,
	"properties": {
		"amount": {"$ref": "#/$defs/money"},
		"currency": {"enum": ["EUR", "CHF"]},
		"note": {"type": ["string", "null"], "maxLength": 5},
		"lines": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"pattern": "^[A-Z]+$"}, "n": {"minimum": 1, "multipleOf": 2}}}},
		"way": {"oneOf": [{"const": "card"}, {"const": "cash"}]},
		"a/b~c": {"type": "boolean"}
	},
	"$defs": {"money": {"type": "number", "exclusiveMinimum": 0, "maximum": 10000}}
}`

func TestCheckNamesTheFieldAndWhatWasExpected(t *testing.T) {
	r := compiled(t, charge)
	for params, want := range map[string][2]string{
		`{"amount":19.99,"currency":"EUR"}`:                         {},
		`{"amount":1,"currency":"CHF","note":null}`:                 {},
		`{"amount":"five","currency":"EUR"}`:                        {"params.amount", `params.amount must be a number, not "five"`},
		`{"amount":0,"currency":"EUR"}`:                             {"params.amount", `params.amount must be more than 0, not 0`},
		`{"amount":10000.5,"currency":"EUR"}`:                       {"params.amount", `params.amount must be at most 10000, not 10000.5`},
		`{"currency":"EUR"}`:                                        {"params.amount", `params.amount is missing`},
		``:                                                          {"params.amount", `params.amount is missing`},
		`{"amount":1,"currency":"USD"}`:                             {"params.currency", `params.currency must be one of ["EUR","CHF"], not "USD"`},
		`{"amount":1,"currency":"EUR","note":"too long"}`:           {"params.note", `params.note must have at most 5 characters, not 8`},
		`{"amount":1,"currency":"EUR","note":7}`:                    {"params.note", `params.note must be a string or null, not 7`},
		`{"amount":1,"currency":"EUR","lines":[]}`:                  {"params.lines", `params.lines must have at least 1 items, not 0`},
		`{"amount":1,"currency":"EUR","lines":[{}]}`:                {"params.lines[0].sku", `params.lines[0].sku is missing`},
		`{"amount":1,"currency":"EUR","lines":[{"sku":"x"}]}`:       {"params.lines[0].sku", `params.lines[0].sku must be a string that matches ^[A-Z]+$, not "x"`},
		`{"amount":1,"currency":"EUR","lines":[{"sku":"X","n":3}]}`: {"params.lines[0].n", `params.lines[0].n must be a multiple of 2, not 3`},
		`{"amount":1,"currency":"EUR","way":"barter"}`:              {"params.way", `params.way fits none of 2 alternatives; of the first, params.way must be "card", not "barter"`},
		`{"amount":1,"currency":"EUR","amont":1}`:                   {"params.amont", `params.amont is not known; there are a/b~c, amount, currency, lines, note, way`},
		`{"amount":1,"currency":"EUR","a/b~c":1}`:                   {"params.a/b~c", `params.a/b~c must be a boolean, not 1`},
		`{"amount":1e999,"currency":"EUR"}`:                         {"params", `params of charge cannot be read: json: cannot unmarshal number 1e999 into Go value of type float64`},
	} {
		got := r.Check(&op.Operation{Type: "charge", Params: json.RawMessage(params)})
		switch {
		case want[0] == "" && got != nil:
			t.Errorf("%s: %v", params, got)
		case want[0] != "" && got == nil:
			t.Errorf("%s: accepted", params)
		case got != nil && (got.Field != want[0] || got.Message != want[1] || got.Code != op.CodeBadParams):
			t.Errorf("%s:\ngot  %s: %s\nwant %s: %s", params, got.Field, got.Message, want[0], want[1])
		}
	}
}

func TestATypeWithoutASchemaIsNotLookedAt(t *testing.T) {
	r := compiled(t, charge)
	for _, typ := range []string{op.TypeModifyField, "nobody"} {
		if err := r.Check(&op.Operation{Type: typ, Params: json.RawMessage(`{"x":1}`)}); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

func TestTypesCarryTheirDefaults(t *testing.T) {
	r := compiled(t, `{}`)
	got := r.Types()["charge"]
	if got.Pool != "billing" || got.Priority != 7 || got.MaxRetries != 9 || r.Revision() != 5 {
		t.Errorf("%+v at revision %d", got, r.Revision())
	}
	if _, ok := r.Types()[op.TypeCreate]; !ok {
		t.Error("the built-in types are gone")
	}
	if _, ok := registry.Builtin().Types()["charge"]; ok {
		t.Error("the built-in registry knows a registered type")
	}
}

func TestBadSchemasAreRefusedWithTheirPlace(t *testing.T) {
	deep := strings.Repeat(`{"not":`, registry.MaxSchemaNodes+1) + `{}` + strings.Repeat(`}`, registry.MaxSchemaNodes+1)
	doubling := `{"allOf":[{"$ref":"#/$defs/a0"}],"$defs":{`
	for i := range 40 {
		doubling += fmt.Sprintf(`"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	doubling += `"a40":{}}}`
	for schema, want := range map[string][2]string{
		`7`:                                      {"", "cannot unmarshal"},
		`{"properties":{"a":{"minimun":1}}}`:     {"/properties/a/minimun", "no such keyword"},
		`{"properties":{"a":{"type":"strnig"}}}`: {"/properties/a/type", `"strnig" is none of array`},
		`{"properties":{"a":{"type":"string","format":"email"}}}`:       {"/properties/a/format", "would not be checked"},
		`{"properties":{"a":null}}`:                                     {"/properties/a", "null is not a schema"},
		`{"properties":{"a":{"pattern":"("}}}`:                          {"", "missing closing )"},
		`{"properties":{"a":{"multipleOf":0.01}}}`:                      {"/properties/a/multipleOf", "whole number"},
		`{"type":"string"}`:                                             {"/type", "always an object"},
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`:         {"/$schema", "2020-12"},
		`{"properties":{"a":{"$ref":"https://example.com/x.json"}}}`:    {"/properties/a/$ref", "nothing is fetched"},
		`{"properties":{"a":{"$ref":"other.json#/x"}}}`:                 {"/properties/a/$ref", "nothing is fetched"},
		`{"properties":{"a":{"$ref":"#/$defs/b"}}}`:                     {"/properties/a/$ref", "no schema at"},
		`{"properties":{"a":{"$ref":"#"}}}`:                             {"/properties/a/$ref", "refers to itself"},
		`{"$ref":"#"}`:                                                  {"/$ref", "refers to itself"},
		`{"$defs":{"x":{"$ref":"#/$defs/y"},"y":{"$ref":"#/$defs/x"}}}`: {"/$defs/x/$ref/$ref", "refers to itself"},
		`{"properties":{"a":{"unevaluatedProperties":false}}}`:          {"/properties/a/unevaluatedProperties", "additionalProperties"},
		`{"properties":{"a/b":{"format":"x"}}}`:                         {"/properties/a~1b/format", "would not be checked"},
		`{"if":true,"then":false,"contains":{},"else":true,"minContains":1,"maxContains":1,"properties":{"a":{"then":{}}}}`: {"/properties/a/then", "no if"},
		`{"description":"` + strings.Repeat("x", registry.MaxSchemaBytes) + `"}`:                                            {"", "at most 16384"},
		deep:     {strings.Repeat("/not", registry.MaxSchemaNodes), "more than 512"},
		doubling: {"", "written out"},
	} {
		_, err := registry.New(with(t, schema))
		var e *op.Error
		if !errors.As(err, &e) {
			t.Errorf("%.80s: %v", schema, err)
			continue
		}
		if e.Code != op.CodeBadPolicy || e.Field != "types.charge.schema"+want[0] || !strings.Contains(e.Message, want[1]) || !strings.Contains(e.Message, "charge") {
			t.Errorf("%.80s:\n%s: %s", schema, e.Field, e.Message)
		}
	}
}

func TestMessagesStayShort(t *testing.T) {
	r := compiled(t, `{"properties":{"a":{"enum":[`+strings.Repeat(`"0123456789",`, 900)+`"x"]}}}`)
	long := strings.Repeat("é", 4<<10)
	err := r.Check(&op.Operation{Type: "charge", Params: json.RawMessage(`{"a":"` + long + `"}`)})
	if err == nil || len(err.Message) > 600 {
		t.Fatalf("%v", err)
	}
}
