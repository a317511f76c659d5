package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Bounds of [frugal], in bytes.
const (
	smallLive = 64 << 20 // in use under everyday load, the server's blocks included
	smallHeap = 84 << 20
	headroom  = 24 << 20 // stacks and what else is not heap
)

// frugal keeps a process with an embedded server small. The server takes blocks
// of megabytes and gives them back to a pool that only a collection empties, so
// that the heap would be twice what it has to be. The limit follows what is
// really in use: under heavy load the collector is as lazy as ever. GOMEMLIMIT,
// if set, counts instead.
func frugal(ctx context.Context) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(live)
		debug.SetMemoryLimit(limitFor(live[0].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// limitFor keeps a process that needs little at little, at the price of a few
// more collections; one that needs more has room to double between two of them,
// as is usual.
func limitFor(live uint64) int64 {
	if live < smallLive {
		return smallHeap
	}
	return int64(2*live) + headroom
}
