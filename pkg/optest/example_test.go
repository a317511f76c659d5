package optest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

// A system for a program that is no test.
func ExampleOpen() {
	ctx := context.Background()
	system, err := optest.Open(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Close()
	out, err := system.Client().Do(ctx, op.Operation{Type: op.TypeCreate, Target: "user-42"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.Status, out.Version)
	// Output: SUCCEEDED 1
}
