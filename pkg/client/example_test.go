package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// try runs an example against a system of its own. In a program, ctx comes from
// whoever called it, and the client from [client.Connect].
func try(f func(ctx context.Context, c *client.Client) error) {
	if err := attempt(f); err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
}

func attempt(f func(ctx context.Context, c *client.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), longEnough)
	defer cancel()
	dir, err := os.MkdirTemp("", "hierarchy-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sys, err := cluster.Start(ctx, cluster.Options{StoreDir: dir, Layout: layout()})
	if err != nil {
		return err
	}
	defer sys.Stop(ctx)
	c, err := client.Connect(ctx, sys.ClientURL())
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

func Example() {
	try(func(ctx context.Context, c *client.Client) error {
		_, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42", Params: client.Params(map[string]any{
			"fields": map[string]any{"name": "Bob"},
		})})
		if err != nil {
			return err
		}
		v, err := c.Get(ctx, "@user-42.name")
		if err != nil {
			return err
		}
		fmt.Printf("%s at version %d, revision %d\n", v.Raw, v.Version, v.Revision)
		return nil
	})
	// Output: "Bob" at version 1, revision 1
}

// Two operations on one entity compete. The loser is told who won, by which rule,
// and what would have won.
func ExampleClient_SubmitBatch() {
	try(func(ctx context.Context, c *client.Client) error {
		if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42"}); err != nil {
			return err
		}
		rename := func(id, name string, p op.Priority) op.Operation {
			return op.Operation{
				ID: id, Type: op.TypeModifyField, Target: "user-42", Priority: p,
				Params: client.Params(map[string]any{"field_name": "name", "new_value": name}),
			}
		}
		all, err := c.SubmitBatch(ctx, []op.Operation{rename("import-7", "Robert", op.Low), rename("support-3", "Bobby", op.High)})
		if err != nil {
			return err
		}
		out, err := all[0].Await(ctx)
		if err != nil {
			return err
		}
		fmt.Println(out.Status, out.Reason, "against", out.Winner)
		if errors.Is(out.Err(), client.ErrLost) {
			x, err := all[0].Explain(ctx)
			if err != nil {
				return err
			}
			fmt.Println(x.Text[0])
			fmt.Println("it would have won at", x.WouldHaveWon.Priority)
		}
		return nil
	})
	// Output:
	// REJECTED lower_priority against support-3
	// It lost to support-3 on user-42: effective priority LOW(2) against HIGH(8).
	// it would have won at HIGH
}

// An id of your own makes a submission safe to repeat, whatever happened to the
// first attempt.
func ExampleClient_Submit_unknownOutcome() {
	try(func(ctx context.Context, c *client.Client) error {
		order := op.Operation{ID: "order-1001", Type: op.TypeCreate, Target: "invoice-1001"} // written down before
		for {
			h, err := c.Submit(ctx, order)
			switch {
			case errors.Is(err, client.ErrUnknown) && ctx.Err() == nil:
				continue // it may be stored: the same id again
			case errors.Is(err, client.ErrOverloaded):
				<-time.After(client.RetryAfter(err)) // it is not stored
				continue
			case err != nil:
				return err // it is not stored, and the error says why
			}
			out, err := h.Await(ctx)
			if err != nil {
				return err // nobody knows yet; it goes on
			}
			fmt.Println(out.OpID, out.Status)
			break
		}
		again, err := c.Do(ctx, order) // a repetition changes nothing
		fmt.Println(again.OpID, again.Status, "revision", again.Revision)
		return err
	})
	// Output:
	// order-1001 SUCCEEDED
	// order-1001 SUCCEEDED revision 1
}

func ExampleClient_Watch() {
	try(func(ctx context.Context, c *client.Client) error {
		events := c.Watch(ctx, client.WatchOptions{Pattern: "entity.*", Target: "user-42"})
		if _, err := c.Do(ctx, op.Operation{ID: "make", Type: op.TypeCreate, Target: "user-42"}); err != nil {
			return err
		}
		for e, err := range events {
			if err != nil {
				return err
			}
			fmt.Println(e.Name, e.Target, "by", e.OpID)
			break // ends the watch
		}
		return nil
	})
	// Output: entity.created user-42 by make
}

// A rejected import is tried once more at a higher priority. With a name, the
// handler goes on where the last process of that name ended.
func ExampleClient_OnRejected() {
	try(func(ctx context.Context, c *client.Client) error {
		if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42"}); err != nil {
			return err
		}
		desk, err := c.OnRejected(ctx, client.Filter{Reasons: []op.Reason{op.LowerPriority}, Submitters: []string{"import"}},
			func(_ context.Context, r client.Rejection) client.Answer {
				fmt.Println(r.OpID, "lost to", r.Winner)
				return client.Resubmit(client.AtPriority(op.Critical), client.After(10*time.Millisecond), client.AtMost(1))
			}, client.Named("import-desk"))
		if err != nil {
			return err
		}
		defer desk.Stop()
		done := c.Watch(ctx, client.WatchOptions{Pattern: "operation.completed", Where: func(e *op.Event) bool { return e.Submitter == "import" }})
		_, err = c.SubmitBatch(ctx, []op.Operation{
			{ID: "import-7", Submitter: "import", Type: op.TypeModifyField, Target: "user-42", Priority: op.Low, Params: client.Params(map[string]any{"field_name": "name", "new_value": "Robert"})},
			{ID: "support-3", Type: op.TypeModifyField, Target: "user-42", Priority: op.High, Params: client.Params(map[string]any{"field_name": "name", "new_value": "Bobby"})},
		})
		if err != nil {
			return err
		}
		for e, err := range done {
			if err != nil {
				return err
			}
			o, err := c.Operation(ctx, e.OpID)
			if err != nil {
				return err
			}
			fmt.Println("submitted again for", o.Labels[client.LabelResubmissionOf], "at", o.Priority)
			break
		}
		return nil
	})
	// Output:
	// import-7 lost to support-3
	// submitted again for import-7 at CRITICAL
}

func ExampleClient_DryRun() {
	try(func(ctx context.Context, c *client.Client) error {
		f, err := c.DryRun(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42"})
		if err != nil {
			return err
		}
		fmt.Println("it would", f.Outlook)
		_, err = c.Get(ctx, "@user-42")
		fmt.Println("nothing was written:", errors.Is(err, client.ErrNotFound))
		return nil
	})
	// Output:
	// it would win
	// nothing was written: true
}

func ExampleClient_Provenance() {
	try(func(ctx context.Context, c *client.Client) error {
		for _, o := range []op.Operation{
			{ID: "signup", Type: op.TypeCreate, Target: "user-1", Params: client.Params(map[string]any{"fields": map[string]any{"email": "bob@example.org"}})},
			{ID: "open", Type: op.TypeCreate, Target: "account-1"},
			{ID: "link", Type: op.TypeBorrow, Target: "account-1", Source: "user-1", Params: client.Params(map[string]any{"source_field": "email", "target_field": "contact"})},
		} {
			if _, err := c.Do(ctx, o); err != nil {
				return err
			}
		}
		way, err := c.Provenance(ctx, "@account-1.contact")
		for _, o := range way {
			fmt.Printf("%s.%s by %s\n", o.EntityID, o.Field, o.OpID)
		}
		return err
	})
	// Output:
	// account-1.contact by link
	// user-1.email by signup
}
