// Command priorities-and-parents shows what decides between operations on one
// entity: their priority, that of the operations they belong to, and, where those
// are equal, who came first. What becomes of a loser is its own choice.
//
// Output:
//
//	high beats normal: normal is REJECTED lower_priority
//	the earlier of equals wins: second is REJECTED later_submission
//	a LOW step of a CRITICAL release beats HIGH: other is REJECTED lower_priority
//	  step asked at LOW(2) and inherited CRITICAL(10) from release-9.
//	a loser that asked to be queued takes its turn: patient is SUCCEEDED
package main

import (
	"context"
	"fmt"
	"log"
	"strings"

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
	system, err := optest.Open(ctx)
	if err != nil {
		return err
	}
	defer system.Close()
	c := system.Client()
	for _, id := range []string{"product-1", "user-42"} {
		if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: id}); err != nil {
			return err
		}
	}

	loser, err := compete(ctx, c, set("normal", op.Normal), set("high", op.High))
	if err != nil {
		return err
	}
	fmt.Printf("high beats normal: %s\n", loser)

	loser, err = compete(ctx, c, set("second", op.Normal), set("first", op.Normal))
	if err != nil {
		return err
	}
	fmt.Printf("the earlier of equals wins: %s\n", loser)

	// A release of the product is CRITICAL. One of its steps changes a user, at a
	// LOW priority of its own; it counts as CRITICAL because the release does.
	release, err := c.Submit(ctx, op.Operation{ID: "release-9", Type: op.TypeVersion, Target: "product-1", Priority: op.Critical})
	if err != nil {
		return err
	}
	step := set("step", op.Low)
	step.Parent = release.ID
	loser, err = compete(ctx, c, set("other", op.High), step)
	if err != nil {
		return err
	}
	fmt.Printf("a LOW step of a CRITICAL release beats HIGH: %s\n", loser)
	why, err := c.Explain(ctx, "step")
	if err != nil {
		return err
	}
	for _, sentence := range why.Text {
		if strings.Contains(sentence, "inherited") {
			fmt.Printf("  %s\n", sentence)
		}
	}

	patient := set("patient", op.Normal)
	patient.OnConflict = op.OnConflictQueue // or op.OnConflictRetry: come back after a delay
	loser, err = compete(ctx, c, patient, set("hasty", op.High))
	if err != nil {
		return err
	}
	fmt.Printf("a loser that asked to be queued takes its turn: %s\n", loser)
	return nil
}

func set(id string, p op.Priority) op.Operation {
	return op.Operation{
		ID: id, Type: op.TypeModifyField, Target: "user-42", Priority: p,
		Params: client.Params(map[string]any{"field_name": "name", "new_value": id}),
	}
}

// compete submits the operation that is going to win, and the one that is going to
// lose, in one message, so that they meet for sure; the winner stands first in it.
// It says how the loser ended.
func compete(ctx context.Context, c *client.Client, loses, wins op.Operation) (string, error) {
	both, err := c.SubmitBatch(ctx, []op.Operation{wins, loses})
	if err != nil {
		return "", err
	}
	first, err := both[0].Await(ctx)
	if err != nil {
		return "", err
	}
	if first.Status != op.Succeeded {
		return "", fmt.Errorf("%s is %s %s", first.OpID, first.Status, first.Reason)
	}
	second, err := both[1].Await(ctx)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(fmt.Sprintf("%s is %s %s", second.OpID, second.Status, second.Reason)), nil
}
