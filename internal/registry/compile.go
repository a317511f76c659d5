package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// Bounds of a schema. The work of one check is at most the number of subschemas
// for each value in the params, of which 32 KiB hold some thousands.
const (
	MaxSchemaBytes = 16 << 10
	MaxSchemaNodes = 512 // with every reference written out
)

// draft is the one version of JSON Schema that is known here.
const draft = "https://json-schema.org/draft/2020-12/schema"

// kinds are the types of JSON Schema.
var kinds = []string{"array", "boolean", "integer", "null", "number", "object", "string"}

// refusal says what is wrong with a schema and where: at is a JSON pointer,
// empty for the whole.
type refusal struct{ at, why string }

func (r *refusal) place() string {
	if r.at == "" {
		return ""
	}
	return " at " + r.at
}

func refuse(at, format string, args ...any) *refusal {
	return &refusal{at: at, why: fmt.Sprintf(format, args...)}
}

// compile reads a schema, or says why it is none for us.
func compile(raw json.RawMessage) (s *schema, bad *refusal) {
	defer func() {
		if p := recover(); p != nil { // the library asserts what we have not thought of
			s, bad = nil, refuse("", "it could not be read: %v", p)
		}
	}()
	if len(raw) > MaxSchemaBytes {
		return nil, refuse("", "it has %d bytes, at most %d are allowed", len(raw), MaxSchemaBytes)
	}
	root := new(jsonschema.Schema)
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(root); err != nil {
		return nil, refuse("", "%v", err)
	}
	c := &compiler{nodes: map[string]*jsonschema.Schema{}, refs: map[string]*jsonschema.Schema{}, weights: map[*jsonschema.Schema]int{}}
	if err := c.visit(root, ""); err != nil {
		return nil, err
	}
	if root.Type != "" && root.Type != "object" || root.Types != nil && !slices.Contains(root.Types, "object") {
		return nil, refuse("/type", "params are always an object")
	}
	if err := c.link(); err != nil {
		return nil, err
	}
	if n, err := c.weigh(root, ""); err != nil {
		return nil, err
	} else if n > MaxSchemaNodes {
		return nil, refuse("", "with its references written out it has %d subschemas, at most %d are allowed", n, MaxSchemaNodes)
	}
	resolved, err := root.Resolve(nil) // without a loader: nothing is fetched
	if err != nil {
		return nil, refuse("", "%v", err)
	}
	return &schema{root: root, resolved: resolved, refs: c.refs}, nil
}

// compiler collects what is known of the parts of one schema.
type compiler struct {
	nodes   map[string]*jsonschema.Schema // by pointer
	order   []string                      // of the pointers
	refs    map[string]*jsonschema.Schema // by the text of the reference
	weights map[*jsonschema.Schema]int    // -1: being weighed
}

// visit checks s and everything below it.
func (c *compiler) visit(s *jsonschema.Schema, at string) *refusal {
	if s == nil {
		return refuse(at, "null is not a schema")
	}
	if len(c.order) >= MaxSchemaNodes {
		return refuse(at, "there are more than %d subschemas", MaxSchemaNodes)
	}
	c.nodes[at] = s
	c.order = append(c.order, at)
	if err := keywords(s, at); err != nil {
		return err
	}
	for _, p := range parts(s) {
		if err := c.visit(p.schema, at+p.at); err != nil {
			return err
		}
	}
	return nil
}

// keywords refuses what would not be checked, or not as its author thinks.
func keywords(s *jsonschema.Schema, at string) *refusal {
	if names := slices.Sorted(maps.Keys(s.Extra)); len(names) > 0 {
		return refuse(at+"/"+escape(names[0]), "there is no such keyword")
	}
	for _, k := range []struct {
		name string
		used bool
		why  string
	}{
		{"$schema", s.Schema != "" && (s.Schema != draft || at != ""), "only " + draft + " is known, at the top"},
		{"$id", s.ID != "" && at != "", "only the whole schema may have an id"},
		{"$anchor", s.Anchor != "", "refer by a pointer such as #/$defs/money"},
		{"$dynamicAnchor", s.DynamicAnchor != "", "refer by a pointer such as #/$defs/money"},
		{"$dynamicRef", s.DynamicRef != "", "refer by a pointer such as #/$defs/money"},
		{"$vocabulary", s.Vocabulary != nil, "it is for schemas of schemas"},
		{"format", s.Format != "", "it would not be checked; a pattern is"},
		{"contentEncoding", s.ContentEncoding != "", "it would not be checked"},
		{"contentMediaType", s.ContentMediaType != "", "it would not be checked"},
		{"contentSchema", s.ContentSchema != nil, "it would not be checked"},
		{"items", s.ItemsArray != nil, "items for each place are called prefixItems"},
		{"additionalItems", s.AdditionalItems != nil, "it is called items in draft 2020-12"},
		{"dependencies", len(s.DependencySchemas)+len(s.DependencyStrings) > 0, "it is called dependentSchemas or dependentRequired"},
		{"unevaluatedItems", s.UnevaluatedItems != nil, "use items"},
		{"unevaluatedProperties", s.UnevaluatedProperties != nil, "use additionalProperties"},
		{"multipleOf", s.MultipleOf != nil && (*s.MultipleOf <= 0 || *s.MultipleOf != math.Trunc(*s.MultipleOf)), "it must be a positive whole number, since fractions are not exact"},
		{"then", s.Then != nil && s.If == nil, "there is no if"},
		{"else", s.Else != nil && s.If == nil, "there is no if"},
		{"minContains", s.MinContains != nil && s.Contains == nil, "there is no contains"},
		{"maxContains", s.MaxContains != nil && s.Contains == nil, "there is no contains"},
	} {
		if k.used {
			return refuse(at+"/"+k.name, "%s", k.why)
		}
	}
	for _, t := range append(s.Types, s.Type) {
		if t != "" && !slices.Contains(kinds, t) {
			return refuse(at+"/type", "%.40q is none of %s", t, strings.Join(kinds, ", "))
		}
	}
	return nil
}

// part is a subschema at a pointer from the schema that has it.
type part struct {
	at     string
	schema *jsonschema.Schema
	unused bool // only evaluated where something refers to it
}

// parts lists the subschemas of s, always in the same order.
func parts(s *jsonschema.Schema) []part {
	var all []part
	one := func(name string, sub *jsonschema.Schema) {
		if sub != nil {
			all = append(all, part{at: "/" + name, schema: sub})
		}
	}
	list := func(name string, subs []*jsonschema.Schema) {
		for i, sub := range subs {
			all = append(all, part{at: "/" + name + "/" + strconv.Itoa(i), schema: sub})
		}
	}
	named := func(name string, subs map[string]*jsonschema.Schema, unused bool) {
		for _, k := range slices.Sorted(maps.Keys(subs)) {
			all = append(all, part{at: "/" + name + "/" + escape(k), schema: subs[k], unused: unused})
		}
	}
	named("$defs", s.Defs, true)
	named("definitions", s.Definitions, true)
	named("properties", s.Properties, false)
	named("patternProperties", s.PatternProperties, false)
	named("dependentSchemas", s.DependentSchemas, false)
	one("additionalProperties", s.AdditionalProperties)
	one("propertyNames", s.PropertyNames)
	list("prefixItems", s.PrefixItems)
	one("items", s.Items)
	one("contains", s.Contains)
	list("allOf", s.AllOf)
	list("anyOf", s.AnyOf)
	list("oneOf", s.OneOf)
	one("not", s.Not)
	one("if", s.If)
	one("then", s.Then)
	one("else", s.Else)
	return all
}

// link finds what the references refer to.
func (c *compiler) link() *refusal {
	for _, at := range c.order {
		ref := c.nodes[at].Ref
		if ref == "" {
			continue
		}
		pointer, within := strings.CutPrefix(ref, "#")
		switch {
		case !within:
			return refuse(at+"/$ref", "%.80q is outside of this schema, and nothing is fetched", ref)
		case strings.Contains(pointer, "%"):
			return refuse(at+"/$ref", "%.80q has a percent sign; name the definition without characters that need one", ref)
		case c.nodes[pointer] == nil:
			return refuse(at+"/$ref", "there is no schema at %.80q", ref)
		}
		c.refs[ref] = c.nodes[pointer]
	}
	return nil
}

// weigh counts the subschemas that an evaluation of s may visit, each as often as
// something leads to it. Beyond the limit the number is only known to be larger.
func (c *compiler) weigh(s *jsonschema.Schema, at string) (int, *refusal) {
	switch w := c.weights[s]; {
	case w < 0:
		return 0, refuse(at, "it refers to itself")
	case w > 0:
		return w, nil
	}
	c.weights[s] = -1
	n := 1
	below := parts(s)
	if s.Ref != "" {
		below = append(below, part{at: "/$ref", schema: c.refs[s.Ref]})
	}
	for _, p := range below {
		w, err := c.weigh(p.schema, at+p.at)
		if err != nil {
			return 0, err
		}
		if !p.unused {
			n = min(n+w, MaxSchemaNodes+1)
		}
	}
	c.weights[s] = n
	return n, nil
}

// escape writes a key as a part of a JSON pointer.
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
