package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed" // the schemas
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The JSON Schemas of an operation, of the params of each built-in type and of the
// policy.
var (
	//go:embed schema/operation.json
	operationSchema []byte
	//go:embed schema/params.json
	paramSchemas []byte
	//go:embed schema/policy.json
	policySchema []byte
)

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [op|policy|TYPE]",
		Short: "Print the JSON Schema of an operation, of the policy or of a type's params, or list the types",
		Long: `Types that an operator has registered are read from the server; without one there
are the built-in types.`,
		Example: `  hierarchy schema                  # the operation types
  hierarchy schema op               # what a submission may hold
  hierarchy schema policy           # what config set takes
  hierarchy schema modify_field     # the params of one type`,
		Args: atMost(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return append([]string{"op", "policy"}, typeNames()...), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return a.listTypes(cmd.Context())
			case args[0] == "op" || args[0] == op.Schema:
				return writeJSON(a.out, json.RawMessage(operationSchema), "  ")
			case args[0] == "policy":
				return writeJSON(a.out, json.RawMessage(policySchema), "  ")
			}
			return a.schemaOf(cmd.Context(), args[0])
		},
	}
}

// schemaOf prints the schema of a type's params: a built-in one needs no server.
func (a *app) schemaOf(ctx context.Context, name string) error {
	params, err := paramsOf()
	if err != nil {
		return err
	}
	if s, ok := params[name]; ok {
		return writeJSON(a.out, s, "  ")
	}
	types, err := a.registered(ctx)
	if err != nil && !errors.Is(err, errNoServer) {
		return err
	}
	t, ok := types[name]
	switch {
	case err != nil:
		return exitWith(daemon.ExitNotFound, "%q is no built-in type, and there is no server that knows others", name)
	case !ok || t.Internal:
		return exitWith(daemon.ExitNotFound, "there is no operation type %q; `hierarchy schema` lists them", name)
	case t.Schema == nil:
		return writeJSON(a.out, json.RawMessage(`{"type":"object","description":"Registered without a schema: its executor judges the params."}`), "  ")
	}
	return writeJSON(a.out, t.Schema, "  ")
}

func paramsOf() (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	err := json.NewDecoder(bytes.NewReader(paramSchemas)).Decode(&m)
	return m, err
}

// typeNames are the types that anyone may submit.
func typeNames() []string {
	types := op.BuiltinTypes()
	maps.DeleteFunc(types, func(_ string, t op.TypeInfo) bool { return t.Internal })
	return slices.Sorted(maps.Keys(types))
}

// typeRow is one line of the list of types.
type typeRow struct {
	Type        string      `json:"op_type"`
	Priority    op.Priority `json:"default_priority"`
	Retries     int         `json:"default_max_retries"`
	Pool        string      `json:"pool"`
	Registered  bool        `json:"registered,omitempty"` // by an operator
	Description string      `json:"description,omitempty"`
}

func (a *app) listTypes(ctx context.Context) error {
	params, err := paramsOf()
	if err != nil {
		return err
	}
	types, err := a.registered(ctx)
	if errors.Is(err, errNoServer) {
		fmt.Fprintln(a.errs, "no server was asked, so there are only the built-in types")
		types, err = op.BuiltinTypes(), nil
	}
	if err != nil {
		return err
	}
	var rows []typeRow
	var names []string
	for _, n := range sortedKeys(types) {
		t := types[n]
		if t.Internal {
			continue
		}
		_, builtin := params[n]
		r := typeRow{Type: n, Priority: t.Priority, Retries: t.MaxRetries, Pool: cmp.Or(t.Pool, op.DefaultPool), Registered: !builtin}
		if r.Description, err = described(cmp.Or(string(params[n]), string(t.Schema))); err != nil {
			return err
		}
		rows, names = append(rows, r), append(names, n)
	}
	return a.print(rows, func(w io.Writer) {
		g := grid{header: []string{"TYPE", "PRIORITY", "RETRIES", "POOL", "WHAT IT DOES"}, right: []int{2}}
		for _, r := range rows {
			g.add(r.Type, priority(r.Priority), number(r.Retries), r.Pool, r.Description)
		}
		g.write(w)
	}, names...)
}

// described is the description in a schema.
func described(schema string) (string, error) {
	var s struct {
		Description string `json:"description"`
	}
	if schema == "" {
		return "", nil
	}
	err := json.Unmarshal([]byte(schema), &s)
	return s.Description, err
}
