package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// app is one run of the program: what the commands share.
type app struct {
	in        io.Reader
	out, errs io.Writer
	output    string // -o
	verbose   bool
	conn      daemon.Connection
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hierarchy",
		Short: "Durable arbitration of competing operations on NATS JetStream",
		Long: `Hierarchy takes operations on entities, lets those on the same target compete by
priority, executes the winner exactly once and tells every loser why.

` + exitHelp,
		Example: `  hierarchy demo                                    # see it work: 20 seconds, nothing to install
  hierarchy dev                                     # a system to play with, until Ctrl-C
  hierarchy submit modify_field user-42 --set counter=1 --priority high --wait
  hierarchy explain 01a1ff7c-3943-7969-a04b-e04374343509`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.check() },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; `hierarchy --help` lists the commands", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.SetUsageTemplate(usageTemplate)
	root.SetHelpTemplate(helpTemplate)
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", asTable, "form of the output: table, json, jsonl, name")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what the roles do, on stderr")
	a.conn.Flags(f)
	root.AddCommand(
		a.demo(), a.dev(), a.setup(),
		a.submit(), a.status(), a.explain(), a.cancel(), a.retry(), a.dead(),
		a.get(), a.history(), a.diff(), a.lineage(), a.export(), a.watch(),
		a.verify(), a.replay(), a.rebuild(), a.recover(), a.stress(), a.torture(), a.config(), a.wait(), a.top(), a.doctor(),
		a.errors(), a.schema(), a.healthcheck(), a.version(),
	)
	return root
}

// check refuses what no command understands.
func (a *app) check() error {
	switch a.output {
	case asTable, asJSON, asLines, asName:
	default:
		return usagef("-o %s: there are table, json, jsonl and name", a.output)
	}
	if err := failpoint.Enable(); err != nil {
		return usagef("%w", err)
	}
	return nil
}

// Examples come before everything else: they are what people read.
const helpTemplate = `{{if .HasExample}}{{.Example}}

{{end}}{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}`

const usageTemplate = `Usage:
{{- if .Runnable}}
  {{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND

Commands:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
`

// exactly and atMost are cobra's, as errors of usage.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %s; see `%s --help`", cmd.Name(), what, cmd.CommandPath())
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes at most %d argument(s); see `%s --help`", cmd.Name(), n, cmd.CommandPath())
		}
		return nil
	}
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  hierarchy version",
		Args:    atMost(0),
		RunE: func(*cobra.Command, []string) error {
			v := versions()
			return a.print(v, func(w io.Writer) { fmt.Fprintln(w, v) }, version)
		},
	}
}

// priority is HIGH(8) for a named one and 7 for any other.
func priority(p op.Priority) string {
	if name := p.String(); name != strconv.Itoa(int(p)) {
		return name + "(" + strconv.Itoa(int(p)) + ")"
	}
	return strconv.Itoa(int(p))
}

func number[T ~int | ~int64 | ~uint64](n T) string { return fmt.Sprint(n) }

// ms writes milliseconds with as many digits as anybody reads.
func ms(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, strings.TrimSpace(one))
}
