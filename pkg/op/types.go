package op

import "encoding/json"

// The built-in operation types (contract §4).
const (
	TypeCreate        = "create_entity"
	TypeVersion       = "version_entity"
	TypeModifyField   = "modify_field"
	TypeBorrow        = "borrow_attribute"
	TypeComplexUpdate = "complex_update"
	TypePromoteToRoot = "promote_to_root"
	TypeDetach        = "detach_entity"
	TypeAttach        = "attach_entity"
	TypeDelete        = "delete_entity"

	// TypeFollowUp is the other side of a structural operation. The resolver
	// that committed the first side submits it, with an id derived from its
	// cause; nobody else may (ADR 0004).
	TypeFollowUp = "structure_follow_up"
)

// DefaultMaxRetries is used where neither the operation nor its type says
// otherwise.
const DefaultMaxRetries = 3

// DefaultPool is the pool of executors that serves every type without one of
// its own.
const DefaultPool = "default"

// TypeInfo is what the edge knows about an operation type.
type TypeInfo struct {
	// Pool of executors that serves it; "" is [DefaultPool].
	Pool string
	// Schema of params as a JSON Schema; nil for built-in types, whose params
	// internal/entity checks.
	Schema     json.RawMessage
	Name       string
	Priority   Priority // default priority
	MaxRetries int      // default retries
	Structural bool     // touches the place of an entity in its tree
	Internal   bool     // may only be submitted by a resolver
}

// Types is a registry of operation types by name.
type Types map[string]TypeInfo

// BuiltinTypes returns the nine types of contract §4 and the follow-up type,
// with the presets of the original: structural operations default to CRITICAL
// and 20 retries. The map is the caller's.
func BuiltinTypes() Types {
	t := Types{}
	for _, n := range []string{TypeCreate, TypeVersion, TypeModifyField, TypeBorrow, TypeComplexUpdate, TypeDelete} {
		t[n] = TypeInfo{Name: n, Priority: Normal, MaxRetries: DefaultMaxRetries}
	}
	for _, n := range []string{TypePromoteToRoot, TypeDetach, TypeAttach} {
		t[n] = TypeInfo{Name: n, Priority: Critical, MaxRetries: 20, Structural: true}
	}
	t[TypeFollowUp] = TypeInfo{Name: TypeFollowUp, Priority: Critical, MaxRetries: MaxRetry, Structural: true, Internal: true}
	return t
}

// public lists the types that a client may use, sorted.
func (t Types) public() []string {
	names := make([]string, 0, len(t))
	for _, n := range sortedKeys(t) {
		if !t[n].Internal {
			names = append(names, n)
		}
	}
	return names
}
