// Package systest starts a whole system for a test: a server and every role, in this
// process. It is for tests of ours; pkg/optest is for those of users.
package systest

import (
	"context"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/cluster"
)

// patience bounds what a test does with its system, so that one that hangs says
// where.
const patience = 60 * time.Second

// Start returns a system that lives as long as the test, and a context that ends
// after a minute. A role that ends with an error fails the test.
func Start(t testing.TB) (context.Context, *bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c, err := cluster.Start(ctx, cluster.Options{StoreDir: t.TempDir(), Port: cluster.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return ctx, c.Bus()
}
