package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/service"
)

// roleHealth is what a role's instances said.
type roleHealth struct {
	Role    string `json:"role"`
	Answers int    `json:"answers"`
	Ready   int    `json:"ready"`
}

// word is how the role does.
func (h *roleHealth) word() string {
	switch {
	case h.Answers == 0:
		return "no answer"
	case h.Ready == 0:
		return "not ready"
	}
	return "ready"
}

func (a *app) healthcheck() *cobra.Command {
	roles := []string{"submitter", "resolver", "executor", "observer"}
	patience := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask every role whether an instance of it is ready; exit code 0 or 1",
		Example: `  hierarchy healthcheck
  hierarchy healthcheck --roles resolver,executor -o json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, b *bus.Bus) error {
				all := make([]roleHealth, len(roles))
				g, ctx := errgroup.WithContext(ctx)
				for i, role := range roles {
					g.Go(func() (err error) {
						all[i], err = askRole(ctx, b.Conn(), role, patience)
						return err
					})
				}
				if err := g.Wait(); err != nil {
					return err
				}
				return a.tellHealth(all)
			})
		},
	}
	cmd.Flags().StringSliceVar(&roles, "roles", roles, "roles that have to be ready")
	cmd.Flags().DurationVar(&patience, "timeout", patience, "how long to wait for answers")
	return cmd
}

// askRole collects the answers of a role's instances until one is ready or the
// patience is over.
func askRole(ctx context.Context, nc *nats.Conn, role string, patience time.Duration) (roleHealth, error) {
	h := roleHealth{Role: role}
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return h, err
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is about to be closed
	if err := nc.PublishRequest(service.Subject(role), inbox, nil); err != nil {
		return h, err
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for h.Ready == 0 {
		m, err := sub.NextMsgWithContext(wait)
		switch {
		case errors.Is(err, nats.ErrNoResponders), err != nil && wait.Err() != nil:
			return h, ctx.Err()
		case err != nil:
			return h, err
		}
		var s service.Status
		if json.Unmarshal(m.Data, &s) != nil {
			continue
		}
		h.Answers++
		if s.Ready {
			h.Ready++
		}
	}
	return h, nil
}

func (a *app) tellHealth(all []roleHealth) error {
	var missing []string
	for _, h := range all {
		if h.Ready == 0 {
			missing = append(missing, h.Role)
		}
	}
	err := a.print(all, func(w io.Writer) {
		for _, h := range all {
			fmt.Fprintf(w, "%s %s: %s\n", tick(h.Ready > 0), h.Role, h.word())
		}
	}, missing...)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return silently(daemon.ExitOther)
	}
	return nil
}
