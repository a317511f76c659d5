package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// codeInfo is one entry of the catalogue of errors and reasons.
type codeInfo struct {
	Code string `json:"code"`
	Name string `json:"name,omitempty"` // of a reason
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func (a *app) errors() *cobra.Command {
	return &cobra.Command{
		Use:   "errors [CODE|REASON]",
		Short: "Explain an error code or a reason, or list all of them",
		Example: `  hierarchy errors
  hierarchy errors OPS-2001
  hierarchy errors lower_priority`,
		Args:              atMost(1),
		ValidArgsFunction: completeCodes,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listCodes()
			}
			return a.explainCode(args[0])
		},
	}
}

func codes() []codeInfo {
	var all []codeInfo
	for _, e := range op.Errors() {
		all = append(all, codeInfo{Code: e.Code, Text: e.Text, Hint: e.Hint})
	}
	for _, r := range op.Reasons() {
		all = append(all, codeInfo{Code: r.Code, Name: string(r.Reason), Text: r.Text})
	}
	return all
}

func completeCodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, c := range codes() {
		names = append(names, c.Code)
		if c.Name != "" {
			names = append(names, c.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) listCodes() error {
	all := codes()
	var names []string
	for _, c := range all {
		names = append(names, c.Code)
	}
	return a.print(all, func(w io.Writer) {
		g := grid{header: []string{"CODE", "REASON", "MEANING"}}
		for _, c := range all {
			first, _, _ := strings.Cut(c.Text, ". ")
			g.add(c.Code, c.Name, strings.TrimSuffix(first, "."))
		}
		g.write(w)
	}, names...)
}

func (a *app) explainCode(name string) error {
	for _, c := range codes() {
		if !strings.EqualFold(name, c.Code) && !strings.EqualFold(name, c.Name) {
			continue
		}
		return a.print(c, func(w io.Writer) {
			fmt.Fprintln(w, strings.TrimSpace(c.Code+"  "+c.Name))
			fmt.Fprintln(w, c.Text)
			if c.Hint != "" {
				fmt.Fprintln(w, c.Hint)
			}
		}, c.Code)
	}
	return exitWith(daemon.ExitNotFound, "there is no code or reason %q; `hierarchy errors` lists all", name)
}
