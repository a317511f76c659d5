package registry

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// The library is the judge and our words are for people: on whatever both can
// look at, they find a fault in the same values.
func TestWordsAndJudgementAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(map[string]any{
			"$defs":      map[string]any{"d": subschema(1).Draw(t, "definition")},
			"properties": map[string]any{"a": subschema(3).Draw(t, "a"), "b": subschema(2).Draw(t, "b")},
			"required":   rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 1).Draw(t, "required"),
		})
		if err != nil {
			t.Fatal(err)
		}
		s, bad := compile(text)
		if bad != nil {
			t.Skip(bad.why)
		}
		value := map[string]any{}
		for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, "members") {
			value[k] = instance(3).Draw(t, k)
		}
		judged, told := s.judge(value), s.explain(s.root, value, "params")
		if (judged == nil) != (told == nil) {
			data, _ := json.Marshal(value)
			t.Fatalf("schema %s\nvalue %s\nthe library says %v\nwe say %+v", text, data, judged, told)
		}
	})
}

func instance(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		most := 5
		if depth == 0 {
			most = 3
		}
		switch rapid.IntRange(0, most).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.SampledFrom([]any{0.0, 1.0, 2.0, 2.5, -4.0}).Draw(t, "number")
		case 3:
			return rapid.SampledFrom([]any{"", "x", "xyz", "é"}).Draw(t, "string")
		case 4:
			return rapid.SliceOfN(instance(depth-1), 0, 3).Draw(t, "array")
		}
		return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "xyz"}), instance(depth-1), 0, 3).Draw(t, "object")
	})
}

func subschema(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if rapid.IntRange(0, 19).Draw(t, "plain") == 0 {
			return rapid.Bool().Draw(t, "bool")
		}
		small := rapid.IntRange(0, 3)
		sub := func(name string) any { return subschema(depth-1).Draw(t, name) }
		list := func(name string) any { return rapid.SliceOfN(subschema(depth-1), 1, 2).Draw(t, name) }
		leaf := []func() (string, any){
			func() (string, any) { return "type", rapid.SampledFrom(kinds).Draw(t, "type") },
			func() (string, any) {
				return "type", rapid.SliceOfNDistinct(rapid.SampledFrom(kinds), 1, 2, rapid.ID).Draw(t, "types")
			},
			func() (string, any) { return "enum", rapid.SliceOfN(instance(1), 1, 3).Draw(t, "enum") },
			func() (string, any) { return "const", instance(1).Draw(t, "const") },
			func() (string, any) { return "minimum", small.Draw(t, "min") },
			func() (string, any) { return "maximum", small.Draw(t, "max") },
			func() (string, any) { return "exclusiveMinimum", small.Draw(t, "xmin") },
			func() (string, any) { return "exclusiveMaximum", small.Draw(t, "xmax") },
			func() (string, any) { return "multipleOf", 1 + small.Draw(t, "of") },
			func() (string, any) { return "minLength", small.Draw(t, "minLength") },
			func() (string, any) { return "maxLength", small.Draw(t, "maxLength") },
			func() (string, any) { return "pattern", rapid.SampledFrom([]string{"^x", "y"}).Draw(t, "pattern") },
			func() (string, any) { return "minItems", small.Draw(t, "minItems") },
			func() (string, any) { return "maxItems", small.Draw(t, "maxItems") },
			func() (string, any) { return "uniqueItems", true },
			func() (string, any) { return "minProperties", small.Draw(t, "minProperties") },
			func() (string, any) { return "maxProperties", small.Draw(t, "maxProperties") },
			func() (string, any) { return "required", []string{"a"} },
			func() (string, any) { return "dependentRequired", map[string]any{"a": []string{"b"}} },
			func() (string, any) { return "$ref", "#/$defs/d" },
		}
		branch := []func() (string, any){
			func() (string, any) { return "properties", map[string]any{"a": sub("a"), "b": sub("b")} },
			func() (string, any) { return "patternProperties", map[string]any{"^x": sub("x")} },
			func() (string, any) { return "additionalProperties", sub("additional") },
			func() (string, any) { return "propertyNames", sub("names") },
			func() (string, any) { return "dependentSchemas", map[string]any{"a": sub("dependent")} },
			func() (string, any) { return "items", sub("items") },
			func() (string, any) { return "prefixItems", list("prefix") },
			func() (string, any) { return "allOf", list("all") },
			func() (string, any) { return "anyOf", list("any") },
			func() (string, any) { return "oneOf", list("one") },
			func() (string, any) { return "not", sub("not") },
		}
		all := leaf
		if depth > 0 {
			all = append(all, branch...)
		}
		s := map[string]any{}
		for range rapid.IntRange(1, 3).Draw(t, "keywords") {
			k, v := all[rapid.IntRange(0, len(all)-1).Draw(t, "keyword")]()
			s[k] = v
		}
		if depth > 0 && rapid.IntRange(0, 4).Draw(t, "logic") == 0 {
			s["if"], s["then"], s["else"] = sub("if"), sub("then"), sub("else")
		}
		if depth > 0 && rapid.IntRange(0, 4).Draw(t, "contains") == 0 {
			s["contains"], s["minContains"], s["maxContains"] = sub("contains"), small.Draw(t, "least"), small.Draw(t, "most")
		}
		return s
	})
}
