package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Registry is the types of one policy. It never changes, so any number of
// goroutines may use it.
type Registry struct {
	revision uint64
	types    op.Types
	schemas  map[string]*schema
}

// schema is what a type asks of its params.
type schema struct {
	root     *jsonschema.Schema
	resolved *jsonschema.Resolved
	refs     map[string]*jsonschema.Schema // by the text of the reference
}

// Builtin returns the registry of the built-in policy: it knows the built-in
// types and no other.
func Builtin() *Registry {
	policy := arbiter.DefaultPolicy()
	return &Registry{types: policy.OpTypes()}
}

// New compiles the schemas of a policy. The error is an [*op.Error] of code
// [op.CodeBadPolicy] whose field names the type and the place in its schema.
func New(policy arbiter.Policy) (*Registry, error) {
	r := &Registry{revision: policy.Revision, types: policy.OpTypes(), schemas: map[string]*schema{}}
	for _, name := range slices.Sorted(maps.Keys(policy.Types)) {
		raw := policy.Types[name].Schema
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		s, err := compile(raw)
		if err != nil {
			return nil, op.Errorf(op.CodeBadPolicy, "types."+name+".schema"+err.at, "the schema of %s%s: %s", name, err.place(), err.why)
		}
		r.schemas[name] = s
	}
	return r, nil
}

// Revision returns the revision of the policy that the registry was built from;
// 0 is the built-in policy.
func (r *Registry) Revision() uint64 { return r.revision }

// Types returns the types for decoding, with their defaults. Nobody may change
// the map.
func (r *Registry) Types() op.Types { return r.types }

// Check tells whether the params of an operation fit the schema of its type.
// Params that are left out are an empty object. The error has code
// [op.CodeBadParams] and names the field below params. A type without a schema,
// and one that is not registered, is not looked at: built-in types are checked
// by entity.CheckParams.
func (r *Registry) Check(o *op.Operation) *op.Error {
	s := r.schemas[o.Type]
	if s == nil {
		return nil
	}
	value := any(map[string]any{})
	if len(o.Params) > 0 {
		if err := json.Unmarshal(o.Params, &value); err != nil {
			return op.Errorf(op.CodeBadParams, "params", "params of %s cannot be read: %v", o.Type, err)
		}
	}
	err := s.judge(value)
	if err == nil {
		return nil
	}
	if f := s.explain(s.root, value, "params"); f != nil {
		return op.Errorf(op.CodeBadParams, f.path, "%s %s", f.path, f.text)
	}
	return op.Errorf(op.CodeBadParams, "params", "params do not fit the schema of %s: %.300s", o.Type, err.Error())
}

// judge evaluates the schema. What the library cannot evaluate is refused: a
// panic here would end every resolver that reads the operation, one after the
// other.
func (s *schema) judge(value any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the schema could not be evaluated: %v", p)
		}
	}()
	return s.resolved.Validate(value)
}
