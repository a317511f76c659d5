package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

func (a *app) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config get | config set KEY=VALUE…",
		Short: "Read or change the policy, under which every decision is made",
		Example: `  hierarchy config get
  hierarchy config set staging_window=5ms grace_period=200ms
  hierarchy config set 'window_by_prefix={"report-":"1s"}'
  hierarchy config set staging_window=        # back to the default`,
		Args: func(cmd *cobra.Command, _ []string) error {
			return usagef("there are config get and config set; see `%s --help`", cmd.CommandPath())
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "get", Short: "Print what is set; everything else has its default",
		Example: "  hierarchy config get\n  hierarchy config get -o json", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				set, rev, err := readPolicy(ctx, b)
				if err != nil {
					return err
				}
				return a.tellPolicy(set, rev)
			})
		},
	}, &cobra.Command{
		Use: "set KEY=VALUE…", Short: "Change some of the policy, if nobody else does at the same time",
		Example: "  hierarchy config set staging_window=5ms\n  hierarchy config set staging_window=   # back to the default",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("config set takes at least one key=value")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error { return a.setPolicy(ctx, b, args) })
		},
	})
	return cmd
}

// readPolicy returns what is set, as it was written.
func readPolicy(ctx context.Context, b *bus.Bus) (map[string]json.RawMessage, uint64, error) {
	set := map[string]json.RawMessage{}
	data, rev, err := b.Policy(ctx)
	if err != nil || len(data) == 0 {
		return set, rev, err
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, rev, fmt.Errorf("the policy on the server is not a JSON object: %w", err)
	}
	return set, rev, nil
}

func (a *app) setPolicy(ctx context.Context, b *bus.Bus, args []string) error {
	set, rev, err := readPolicy(ctx, b)
	if err != nil {
		return err
	}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return usagef("%q is not key=value", arg)
		}
		if value == "" {
			delete(set, key)
			continue
		}
		if set[key], err = json.Marshal(valueOf(value)); err != nil {
			return err
		}
	}
	data, err := json.Marshal(set)
	if err != nil {
		return err
	}
	// The resolvers refuse a policy that they cannot read and keep the old one;
	// whoever sets it should hear of it.
	if _, err := arbiter.ParsePolicy(data, rev); err != nil {
		return daemon.Exit(daemon.ExitUsage, err)
	}
	if rev, err = b.UpdatePolicy(ctx, data, rev); err != nil {
		return err
	}
	return a.tellPolicy(set, rev)
}

func (a *app) tellPolicy(set map[string]json.RawMessage, rev uint64) error {
	keys := sortedKeys(set)
	v := struct {
		Revision uint64                     `json:"revision"`
		Policy   map[string]json.RawMessage `json:"policy"`
	}{rev, set}
	return a.print(v, func(w io.Writer) {
		if rev == 0 {
			fmt.Fprintln(w, "nothing is set: the built-in policy is in force")
			return
		}
		fmt.Fprintf(w, "revision %d\n", rev)
		for _, k := range keys {
			fmt.Fprintf(w, "%s=%s\n", k, strings.Trim(string(set[k]), `"`))
		}
	}, keys...)
}
