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

// When the thrift costs too much: shares of the time of all processors that the
// collector takes.
const (
	costly   = 0.04
	cheap    = 0.01
	maxEase  = 4
	calmTime = 30 // looks, a second apart, before room is taken back
)

// thrift keeps the memory of a process small for as long as that is cheap. A
// process that allocates much out of little, as a submitter that refuses ten
// thousand operations a second does, would spend most of its time collecting; it
// is given room until it does not.
type thrift struct {
	ease          int // how many times the usual room there is, a power of two
	calm          int
	gcTime, procs float64 // seconds, at the last look
	setPercent    func(int) int
	setLimit      func(int64) int64
	limited       bool // the limit is ours to set
	fixed         bool // the percentage is not
}

// frugal looks once a second after how much room a process with an embedded server
// has. The server takes blocks of megabytes and gives them back to a pool that
// only a collection empties, so that a limit has to see to it. GOGC and GOMEMLIMIT,
// if set, count instead.
func frugal(ctx context.Context) {
	t := thrift{
		ease: 1, setPercent: debug.SetGCPercent, setLimit: debug.SetMemoryLimit,
		limited: os.Getenv("GOMEMLIMIT") == "", fixed: os.Getenv("GOGC") != "",
	}
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(s)
		t.look(s[0].Value.Uint64(), s[1].Value.Float64(), s[2].Value.Float64())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look sets the bounds by the live heap, in bytes, and by what the collector took
// so far of the time of all processors, in seconds.
func (t *thrift) look(live uint64, gcTime, procs float64) {
	if passed := procs - t.procs; passed > 0 { // the runtime counts at each collection
		switch share := (gcTime - t.gcTime) / passed; {
		case share > costly:
			t.ease, t.calm = min(2*t.ease, maxEase), 0
		case share < cheap && t.ease > 1:
			if t.calm++; t.calm >= calmTime {
				t.ease, t.calm = t.ease/2, 0
			}
		default:
			t.calm = 0
		}
		t.gcTime, t.procs = gcTime, procs
	}
	if !t.fixed {
		t.setPercent(gcPercent * t.ease)
	}
	if t.limited {
		t.setLimit(limitFor(live, t.ease))
	}
}

// limitFor keeps a process that needs little at little, at the price of a few
// more collections, or at ease times that; one that needs more has room to double
// between two of them, as is usual.
func limitFor(live uint64, ease int) int64 {
	limit := smallHeap * int64(ease)
	if live >= smallLive {
		limit = max(limit, int64(2*live)+headroom)
	}
	return limit
}
