package main

import (
	"bytes"
	_ "embed" // the schemas
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// The JSON Schemas of an operation and of the params of each built-in type.
var (
	//go:embed schema/operation.json
	operationSchema []byte
	//go:embed schema/params.json
	paramSchemas []byte
)

func (a *app) schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema [op|TYPE]",
		Short: "Print the JSON Schema of an operation or of a type's params, or list the types",
		Example: `  hierarchy schema                  # the operation types
  hierarchy schema op               # what a submission may hold
  hierarchy schema modify_field     # the params of one type`,
		Args: atMost(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return append([]string{"op"}, typeNames()...), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return a.listTypes()
			case args[0] == "op" || args[0] == op.Schema:
				return writeJSON(a.out, json.RawMessage(operationSchema), "  ")
			}
			params, err := paramsOf()
			if err != nil {
				return err
			}
			s, ok := params[args[0]]
			if !ok {
				return exitWith(daemon.ExitNotFound, "there is no operation type %q; `hierarchy schema` lists them", args[0])
			}
			return writeJSON(a.out, s, "  ")
		},
	}
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

func (a *app) listTypes() error {
	params, err := paramsOf()
	if err != nil {
		return err
	}
	type row struct {
		Type        string      `json:"op_type"`
		Priority    op.Priority `json:"default_priority"`
		Retries     int         `json:"default_max_retries"`
		Description string      `json:"description"`
	}
	var rows []row
	types := op.BuiltinTypes()
	for _, n := range typeNames() {
		var s struct {
			Description string `json:"description"`
		}
		if err := json.Unmarshal(params[n], &s); err != nil {
			return err
		}
		rows = append(rows, row{n, types[n].Priority, types[n].MaxRetries, s.Description})
	}
	return a.print(rows, func(w io.Writer) {
		g := grid{header: []string{"TYPE", "PRIORITY", "RETRIES", "WHAT IT DOES"}, right: []int{2}}
		for _, r := range rows {
			g.add(r.Type, priority(r.Priority), number(r.Retries), r.Description)
		}
		g.write(w)
	}, typeNames()...)
}
