package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

func (a *app) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config get|set|validate|history",
		Short: "Read, check or change the policy, under which every decision is made",
		Long: `The policy is one JSON object on the server; what is not in it has its default.
` + "`hierarchy schema policy`" + ` describes every field.`,
		Example: `  hierarchy config get
  hierarchy config set staging_window=5ms grace_period=200ms
  hierarchy config set 'window_by_prefix={"report-":"1s"}'
  hierarchy config set types.resize_image.pool=gpu
  hierarchy config set staging_window=        # back to the default
  hierarchy config validate -f policy.json
  hierarchy config history`,
		Args: func(cmd *cobra.Command, _ []string) error {
			return usagef("there are config get, set, validate and history; see `%s --help`", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.configGet(), a.configSet(), a.configValidate(), a.configHistory())
	return cmd
}

func (a *app) configGet() *cobra.Command {
	all := false
	revision := uint64(0)
	cmd := &cobra.Command{
		Use: "get", Short: "Print what is set; everything else has its default",
		Example: `  hierarchy config get
  hierarchy config get --all                   # the defaults, too
  hierarchy config get --revision 3 -o json    # an older one`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				p, err := readPolicy(ctx, b)
				if err == nil && revision > 0 && revision != p.rev {
					p, err = readRevision(ctx, b, revision)
				}
				if err != nil {
					return err
				}
				return a.tellPolicy(p, all)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "print what has its default, too")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "print this revision; the last ten are kept")
	return cmd
}

// configChange are the flags of set and validate.
type configChange struct {
	file     string
	revision uint64
}

func (c *configChange) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.file, "file", "f", "", "JSON that replaces the whole policy; -: stdin")
}

func (c *configChange) args(cmd *cobra.Command, args []string) error {
	if (c.file == "") == (len(args) == 0) {
		return usagef("%s takes either key=value, at least one, or -f; see `%s --help`", cmd.CommandPath(), cmd.CommandPath())
	}
	return nil
}

func (a *app) configSet() *cobra.Command {
	var c configChange
	cmd := &cobra.Command{
		Use: "set KEY=VALUE… | set -f FILE", Short: "Change some of the policy, if nobody else does at the same time",
		Long: `Checks the new policy, stores it if the one on the server is still the one that was
read, and says what has changed. A value is JSON, or else text; an empty one takes
the key out. Dots go into objects: types.resize_image.pool=gpu.`,
		Example: `  hierarchy config set staging_window=5ms
  hierarchy config set staging_window=   # back to the default
  hierarchy config set types.resize_image.max_retries=5 'paused={"targets":["import-*"]}'
  hierarchy config set -f policy.json --revision 3`,
		Args: c.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				before, after, err := a.changedPolicy(ctx, b, &c, args)
				if err != nil {
					return err
				}
				if cmd.Flags().Changed("revision") && c.revision != before.rev {
					return exitWith(daemon.ExitOther, "the policy is at revision %d, not at %d; nothing is changed", before.rev, c.revision)
				}
				if after.rev, err = b.UpdatePolicy(ctx, after.data, before.rev); err != nil {
					if errors.Is(err, bus.ErrPolicyChanged) {
						return exitWith(daemon.ExitOther, "somebody else has changed the policy at the same time; nothing is changed, look and try again")
					}
					return err
				}
				return a.tellChange(before, after)
			})
		},
	}
	c.flags(cmd)
	cmd.Flags().Uint64Var(&c.revision, "revision", 0, "only if the policy is at this revision; 0: if there is none")
	return cmd
}

func (a *app) configValidate() *cobra.Command {
	var c configChange
	cmd := &cobra.Command{
		Use: "validate KEY=VALUE… | validate -f FILE", Short: "Check a policy and say what it would change; changes nothing",
		Example: `  hierarchy config validate -f policy.json
  hierarchy config validate staging_window=5ms`,
		Args: c.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				before, after, err := a.changedPolicy(ctx, b, &c, args)
				if err != nil {
					return err
				}
				after.rev = 0
				return a.tellChange(before, after)
			})
		},
	}
	c.flags(cmd)
	return cmd
}

func (a *app) configHistory() *cobra.Command {
	return &cobra.Command{
		Use: "history", Short: "List the last revisions, with what each of them changed",
		Example: "  hierarchy config history\n  hierarchy config history -o jsonl", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				all, err := policyHistory(ctx, b)
				if err != nil {
					return err
				}
				return a.tellRevisions(all)
			})
		},
	}
}

// revisionInfo is one line of the history.
type revisionInfo struct {
	Revision uint64         `json:"revision"`
	At       time.Time      `json:"at"`
	Error    string         `json:"error,omitempty"` // it was never in force
	Changes  []policyChange `json:"changes"`
}

func (a *app) tellRevisions(all []storedPolicy) error {
	infos := []revisionInfo{}
	var names []string
	before := storedPolicy{}
	for i := range all {
		p := &all[i]
		infos = append(infos, revisionInfo{Revision: p.rev, At: p.at, Error: p.invalid, Changes: changes(&before, p)})
		if i == 0 && p.rev > 1 {
			infos[0].Changes = nil // what was before it is not kept
		}
		names = append(names, number(p.rev))
		if p.invalid == "" {
			before = *p
		}
	}
	if a.output == asLines {
		for i := range infos {
			if err := writeJSON(a.out, &infos[i], ""); err != nil {
				return err
			}
		}
		return nil
	}
	return a.print(infos, func(w io.Writer) {
		if len(infos) == 0 {
			fmt.Fprintln(w, "nothing was ever set: the built-in policy is in force")
			return
		}
		g := grid{header: []string{"REVISION", "AT", "CHANGE"}, right: []int{0}}
		for i := range infos {
			r := &infos[i]
			first, at := number(r.Revision), r.At.Local().Format(timeLayout)
			lines := []string{}
			for _, c := range r.Changes {
				lines = append(lines, c.String())
			}
			switch {
			case r.Error != "":
				lines = []string{"not valid, so it was never in force: " + r.Error}
			case r.Changes == nil:
				lines = []string{"the revisions before are not kept"}
			case len(lines) == 0:
				lines = []string{"nothing"}
			}
			for _, l := range lines {
				g.add(first, at, l)
				first, at = "", ""
			}
		}
		g.write(w)
	}, names...)
}

// tellPolicy prints a policy, with the defaults of what is not set if all is.
func (a *app) tellPolicy(p *storedPolicy, all bool) error {
	set := p.set
	if all {
		set = p.effective()
	}
	keys := sortedKeys(set)
	v := struct {
		Revision uint64                     `json:"revision"`
		Policy   map[string]json.RawMessage `json:"policy"`
	}{p.rev, set}
	return a.print(v, func(w io.Writer) {
		if p.rev == 0 {
			fmt.Fprintln(w, "nothing is set: the built-in policy is in force")
		} else {
			fmt.Fprintf(w, "revision %d\n", p.rev)
		}
		for _, k := range keys {
			mark := ""
			if _, given := p.set[k]; all && !given {
				mark = "   # default"
			}
			fmt.Fprintf(w, "%s=%s%s\n", k, plainText(set[k]), mark)
		}
	}, keys...)
}

// tellChange prints what lies between two policies. One without a revision was
// not stored.
func (a *app) tellChange(before, after *storedPolicy) error {
	diff := changes(before, after)
	var names []string
	for _, c := range diff {
		names = append(names, c.Field)
	}
	v := struct {
		Revision uint64         `json:"revision,omitempty"`
		Valid    bool           `json:"valid"`
		Changes  []policyChange `json:"changes"`
	}{after.rev, true, diff}
	return a.print(v, func(w io.Writer) {
		switch {
		case after.rev > 0:
			fmt.Fprintf(w, "revision %d\n", after.rev)
		case len(diff) == 0:
			fmt.Fprintln(w, "valid; it changes nothing")
		default:
			fmt.Fprintln(w, "valid; it would change:")
		}
		for _, c := range diff {
			fmt.Fprintln(w, c)
		}
	}, names...)
}
