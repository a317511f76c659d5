package registry

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// fault is the first thing about a value that does not fit: where, and what was
// expected and found there.
type fault struct{ path, text string }

// explain finds the place at which value does not fit n; nil: it fits. It says
// what the library's judgement does not: the place in the params instead of the
// place in the schema, and always the same one of several.
func (s *schema) explain(n *jsonschema.Schema, value any, path string) *fault {
	if n.Ref != "" {
		if f := s.explain(s.refs[n.Ref], value, path); f != nil {
			return f
		}
	}
	if f := explainKind(n, value, path); f != nil {
		return f
	}
	var f *fault
	switch v := value.(type) {
	case float64:
		f = explainNumber(n, v, path)
	case string:
		f = explainText(n, v, path)
	case []any:
		f = s.explainArray(n, v, path)
	case map[string]any:
		f = s.explainObject(n, v, path)
	}
	if f != nil {
		return f
	}
	return s.explainLogic(n, value, path)
}

func explainKind(n *jsonschema.Schema, value any, path string) *fault {
	want := n.Types
	if n.Type != "" {
		want = []string{n.Type}
	}
	kind := kindOf(value)
	if want != nil && !slices.Contains(want, kind) && (kind != "integer" || !slices.Contains(want, "number")) {
		named := make([]string, len(want))
		for i, k := range want {
			named[i] = articles[k]
		}
		return expected(path, strings.Join(named, " or "), value)
	}
	equal := func(v any) bool { return jsonschema.Equal(v, value) }
	if n.Enum != nil && !slices.ContainsFunc(n.Enum, equal) {
		return expected(path, "one of "+show(n.Enum), value)
	}
	if n.Const != nil && !equal(*n.Const) {
		return expected(path, show(*n.Const), value)
	}
	return nil
}

func explainNumber(n *jsonschema.Schema, v float64, path string) *fault {
	switch {
	case n.Minimum != nil && v < *n.Minimum:
		return expected(path, "at least "+number(*n.Minimum), v)
	case n.Maximum != nil && v > *n.Maximum:
		return expected(path, "at most "+number(*n.Maximum), v)
	case n.ExclusiveMinimum != nil && v <= *n.ExclusiveMinimum:
		return expected(path, "more than "+number(*n.ExclusiveMinimum), v)
	case n.ExclusiveMaximum != nil && v >= *n.ExclusiveMaximum:
		return expected(path, "less than "+number(*n.ExclusiveMaximum), v)
	case n.MultipleOf != nil && math.Mod(v, *n.MultipleOf) != 0:
		return expected(path, "a multiple of "+number(*n.MultipleOf), v)
	}
	return nil
}

func explainText(n *jsonschema.Schema, v, path string) *fault {
	length := utf8.RuneCountInString(v)
	switch {
	case n.MinLength != nil && length < *n.MinLength:
		return counted(path, "at least", *n.MinLength, "characters", length)
	case n.MaxLength != nil && length > *n.MaxLength:
		return counted(path, "at most", *n.MaxLength, "characters", length)
	case n.Pattern != "" && !matches(n.Pattern, v):
		return expected(path, "a string that matches "+n.Pattern, v)
	}
	return nil
}

// matches reports whether v matches an expression, which was compiled before
// when the schema was.
func matches(pattern, v string) bool {
	re, err := regexp.Compile(pattern)
	return err != nil || re.MatchString(v)
}

func (s *schema) explainArray(n *jsonschema.Schema, v []any, path string) *fault {
	for i, item := range v {
		sub := n.Items
		if i < len(n.PrefixItems) {
			sub = n.PrefixItems[i]
		}
		if sub == nil {
			break
		}
		if f := s.explain(sub, item, path+"["+strconv.Itoa(i)+"]"); f != nil {
			return f
		}
	}
	switch {
	case n.MinItems != nil && len(v) < *n.MinItems:
		return counted(path, "at least", *n.MinItems, "items", len(v))
	case n.MaxItems != nil && len(v) > *n.MaxItems:
		return counted(path, "at most", *n.MaxItems, "items", len(v))
	}
	if n.UniqueItems {
		for i := range v {
			if slices.ContainsFunc(v[:i], func(w any) bool { return jsonschema.Equal(v[i], w) }) {
				return &fault{path + "[" + strconv.Itoa(i) + "]", "is there twice: " + show(v[i])}
			}
		}
	}
	if n.Contains == nil {
		return nil
	}
	least, found := 1, 0
	if n.MinContains != nil {
		least = *n.MinContains
	}
	for _, item := range v {
		if s.explain(n.Contains, item, path) == nil {
			found++
		}
	}
	switch {
	case found < least:
		return counted(path, "at least", least, "items of a kind", found)
	case n.MaxContains != nil && found > *n.MaxContains:
		return counted(path, "at most", *n.MaxContains, "items of a kind", found)
	}
	return nil
}

func (s *schema) explainObject(n *jsonschema.Schema, v map[string]any, path string) *fault {
	for _, name := range n.Required {
		if _, ok := v[name]; !ok {
			return &fault{below(path, name), "is missing"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if f := s.explainMember(n, name, v[name], path); f != nil {
			return f
		}
	}
	switch {
	case n.MinProperties != nil && len(v) < *n.MinProperties:
		return counted(path, "at least", *n.MinProperties, "members", len(v))
	case n.MaxProperties != nil && len(v) > *n.MaxProperties:
		return counted(path, "at most", *n.MaxProperties, "members", len(v))
	}
	for _, name := range slices.Sorted(maps.Keys(n.DependentRequired)) {
		for _, other := range n.DependentRequired[name] {
			_, has := v[name]
			if _, ok := v[other]; has && !ok {
				return &fault{below(path, other), "is missing, which " + clip(name) + " needs"}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.DependentSchemas)) {
		if _, has := v[name]; has {
			if f := s.explain(n.DependentSchemas[name], v, path); f != nil {
				return f
			}
		}
	}
	return nil
}

// explainMember looks at one member of an object.
func (s *schema) explainMember(n *jsonschema.Schema, name string, value any, path string) *fault {
	path = below(path, name)
	known := false
	if sub := n.Properties[name]; sub != nil {
		known = true
		if f := s.explain(sub, value, path); f != nil {
			return f
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(n.PatternProperties)) {
		if matches(pattern, name) {
			known = true
			if f := s.explain(n.PatternProperties[pattern], value, path); f != nil {
				return f
			}
		}
	}
	if n.PropertyNames != nil {
		if f := s.explain(n.PropertyNames, name, path); f != nil {
			return &fault{path, "has a name that is not allowed"}
		}
	}
	if sub := n.AdditionalProperties; sub != nil && !known {
		if f := s.explain(sub, value, path); f != nil {
			if !never(sub) {
				return f
			}
			known := slices.Sorted(maps.Keys(n.Properties))
			if len(known) == 0 {
				return &fault{path, "is not known; there are no members"}
			}
			return &fault{path, "is not known; there are " + cut(strings.Join(known, ", "))}
		}
	}
	return nil
}

func (s *schema) explainLogic(n *jsonschema.Schema, value any, path string) *fault {
	for _, sub := range n.AllOf {
		if f := s.explain(sub, value, path); f != nil {
			return f
		}
	}
	if n.AnyOf != nil {
		if fits, first := s.count(n.AnyOf, value, path); fits == 0 {
			return alternatives(path, len(n.AnyOf), first)
		}
	}
	if n.OneOf != nil {
		switch fits, first := s.count(n.OneOf, value, path); fits {
		case 0:
			return alternatives(path, len(n.OneOf), first)
		case 1:
		default:
			return &fault{path, "fits " + strconv.Itoa(fits) + " alternatives of which exactly one is allowed"}
		}
	}
	if n.Not != nil && s.explain(n.Not, value, path) == nil {
		return &fault{path, "is not allowed to be " + show(value)}
	}
	if n.If != nil {
		sub := n.Else
		if s.explain(n.If, value, path) == nil {
			sub = n.Then
		}
		if sub != nil {
			return s.explain(sub, value, path)
		}
	}
	return nil
}

// count returns how many alternatives value fits, and what the first one that it
// does not fit says.
func (s *schema) count(all []*jsonschema.Schema, value any, path string) (fits int, first *fault) {
	for _, sub := range all {
		f := s.explain(sub, value, path)
		if f == nil {
			fits++
		} else if first == nil {
			first = f
		}
	}
	return fits, first
}

func alternatives(path string, n int, first *fault) *fault {
	if n == 1 || first == nil {
		return first
	}
	return &fault{path, "fits none of " + strconv.Itoa(n) + " alternatives; of the first, " + first.path + " " + first.text}
}

// never reports whether n is the schema false.
func never(n *jsonschema.Schema) bool {
	data, err := n.MarshalJSON()
	return err == nil && string(data) == "false"
}

// articles are the types of JSON Schema in a sentence.
var articles = map[string]string{
	"array": "an array", "boolean": "a boolean", "integer": "an integer", "null": "null", "number": "a number",
	"object": "an object", "string": "a string",
}

func expected(path, want string, found any) *fault {
	return &fault{path, "must be " + cut(want) + ", not " + show(found)}
}

func counted(path, bound string, want int, what string, found int) *fault {
	return &fault{path, "must have " + bound + " " + strconv.Itoa(want) + " " + what + ", not " + strconv.Itoa(found)}
}

// below is the path of a member.
func below(path, name string) string { return path + "." + clip(name) }

func clip(name string) string { return strings.ToValidUTF8(name[:min(len(name), op.MaxToken)], "") }

// cut keeps a text within a message: the schema and the params may be large.
func cut(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + " …"
}

// show writes a value as JSON, cut to fit into a message.
func show(value any) string {
	data, err := op.Marshal(value)
	if err != nil {
		return "something that is not JSON"
	}
	return cut(string(data))
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// kindOf names the type of a decoded value in the words of JSON Schema.
func kindOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}
