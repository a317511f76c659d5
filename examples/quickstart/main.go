// Command quickstart has two services want different things of one entity at the
// same moment. One wins, and the other is told by whom it was beaten, by which
// rule, and what would have won.
//
// Output:
//
//	created user-42, version 1
//	support-3 won: revision 2
//	import-7 lost to support-3 (lower_priority, OPS-2001)
//	  It lost to support-3 on user-42: effective priority LOW(2) against HIGH(8).
//	  Priority HIGH(8) would have won.
//	the name is "Bobby"
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	// A whole system in this process, so that there is nothing to install. With
	// one that runs elsewhere, this is
	//	c, err := client.Connect(ctx, "nats://127.0.0.1:4222")
	//	defer c.Close()
	// The window is how long competitors collect. 10 ms are usual; here it is long
	// enough for both services on any machine.
	system, err := optest.Open(ctx, optest.WithStagingWindow(300*time.Millisecond))
	if err != nil {
		return err
	}
	defer system.Close()
	c := system.Client()

	// Submit an operation and wait for its end.
	created, err := c.Do(ctx, op.Operation{
		Type: op.TypeCreate, Target: "user-42",
		Params: client.Params(map[string]any{"fields": map[string]any{"name": "Bob"}}),
	})
	if err != nil {
		return err
	}
	fmt.Printf("created %s, version %d\n", created.Target, created.Version)

	// A nightly import and the support desk rename the same user. Submit returns
	// as soon as the operation is durable: from here on it will end, whatever
	// happens.
	slow, err := c.Submit(ctx, rename("import-7", op.Low, "Robert"))
	if err != nil {
		return err
	}
	fast, err := c.Submit(ctx, rename("support-3", op.High, "Bobby"))
	if err != nil {
		return err
	}
	for _, h := range []*client.Handle{fast, slow} {
		if err := tell(ctx, h); err != nil {
			return err
		}
	}

	name, err := c.Get(ctx, "@user-42.name")
	if err != nil {
		return err
	}
	fmt.Printf("the name is %s\n", name.Raw)
	return nil
}

func rename(id string, p op.Priority, name string) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeModifyField, Target: "user-42", Priority: p,
		Params: client.Params(map[string]any{"field_name": "name", "new_value": name}),
	}
}

// tell waits for the end of an operation and says what became of it, and why.
func tell(ctx context.Context, h *client.Handle) error {
	out, err := h.Await(ctx)
	if err != nil {
		return err // nobody answered; the operation goes on
	}
	switch err := out.Err(); {
	case err == nil:
		fmt.Printf("%s won: revision %d\n", h.ID, out.Revision)
	case errors.Is(err, client.ErrLost):
		fmt.Printf("%s lost to %s (%s, %s)\n", h.ID, out.Winner, out.Reason, out.Code)
		why, err := h.Explain(ctx)
		if err != nil {
			return err
		}
		for _, sentence := range why.Text[:2] {
			fmt.Printf("  %s\n", sentence)
		}
	default:
		return err
	}
	return nil
}
