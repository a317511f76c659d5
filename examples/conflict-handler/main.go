// Command conflict-handler reacts to what happens to operations, from outside: it
// hears of every rejection, and decides what to do about it. Here an import whose
// operations lose to people tries again, once, at the next quiet moment.
//
// A handler with a name is durable: it goes on where it was after a restart, and
// several processes of one name share the work.
//
// Output:
//
//	conflict on user-42: 2 contenders, support-3 won
//	import-7 was rejected: lower_priority, lost to support-3; it is submitted again
//	the second import succeeded; it is number 1 after import-7
//	the plan is "gold" and the name is "Bobby"
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
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	system, err := optest.Open(ctx)
	if err != nil {
		return err
	}
	defer system.Close()
	c := system.Client()
	if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42"}); err != nil {
		return err
	}

	// What is told about the conflict, in words. It changes nothing.
	conflict := make(chan string, 1)
	heard, err := c.OnConflict(ctx, client.Filter{}, func(_ context.Context, e client.Conflict) client.Answer {
		conflict <- fmt.Sprintf("conflict on %s: %d contenders, %s won", e.Target, e.Total, e.OpID)
		return client.Nothing()
	})
	if err != nil {
		return err
	}
	defer heard.Stop()

	// What the import does about its own losses.
	rejected := make(chan string, 1)
	mine := client.Filter{Submitters: []string{"import"}, Reasons: []op.Reason{op.LowerPriority}}
	imports, err := c.OnRejected(ctx, mine, func(_ context.Context, r client.Rejection) client.Answer {
		if !errors.Is(r.Kind(), client.ErrLost) {
			return client.Nothing()
		}
		rejected <- fmt.Sprintf("%s was rejected: %s, lost to %s; it is submitted again", r.OpID, r.Reason, r.Winner)
		return client.Resubmit(client.AtMost(1))
	}, client.Named("import-again"))
	if err != nil {
		return err
	}
	defer imports.Stop()

	// Events from now on tell how the second try ends.
	completed := c.Watch(ctx, client.WatchOptions{Pattern: string(op.EventCompleted), Target: "user-42"})

	imported := set("import-7", op.Low, "plan", "gold")
	imported.Submitter = "import"
	if _, err := c.SubmitBatch(ctx, []op.Operation{imported, set("support-3", op.High, "name", "Bobby")}); err != nil {
		return err
	}
	fmt.Println(<-conflict)
	fmt.Println(<-rejected)
	for e, err := range completed {
		if err != nil {
			return err
		}
		if e.OpID != "support-3" {
			return tell(ctx, c, e.OpID)
		}
	}
	return ctx.Err() // nothing else ends the watch
}

// tell says what became of the second import, and what both have led to.
func tell(ctx context.Context, c *client.Client, opID string) error {
	second, err := c.Operation(ctx, opID)
	if err != nil {
		return err
	}
	fmt.Printf("the second import succeeded; it is number %d after %s\n",
		client.Resubmissions(&second), second.Labels[client.LabelResubmissionOf])
	e, err := c.Entity(ctx, "@user-42")
	if err != nil {
		return err
	}
	fmt.Printf("the plan is %s and the name is %s\n", e.Fields["plan"], e.Fields["name"])
	return nil
}

func set(id string, p op.Priority, field, value string) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeModifyField, Target: "user-42", Priority: p,
		Params: client.Params(map[string]any{"field_name": field, "new_value": value}),
	}
}
