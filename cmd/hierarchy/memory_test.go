package main

import "testing"

func TestThriftLastsAsLongAsItIsCheap(t *testing.T) {
	var percent int
	var limit int64
	h := thrift{
		ease: 1, limited: true,
		setPercent: func(p int) int { percent = p; return 0 },
		setLimit:   func(l int64) int64 { limit = l; return 0 },
	}
	var gc, procs float64
	pass := func(share float64, seconds int) {
		for range seconds {
			procs += 2
			gc += 2 * share
			h.look(20<<20, gc, procs)
		}
	}
	is := func(when string, ease int) {
		t.Helper()
		if percent != gcPercent*ease || limit != int64(smallHeap*ease) {
			t.Errorf("%s: collect at %d %%, limit %d MB, want %d times the usual", when, percent, limit>>20, ease)
		}
	}
	pass(0.005, 100)
	is("when little is allocated", 1)
	pass(0.2, 1)
	is("after a second of much", 2)
	pass(0.2, 60)
	is("after a minute of much", maxEase)
	pass(0.02, 600)
	is("when it is neither much nor little", maxEase)
	pass(0.005, calmTime)
	is("after half a minute of little", maxEase/2)
	h.look(20<<20, gc, procs) // nothing was collected since
	is("between two collections", maxEase/2)
	pass(0.005, 3*calmTime)
	is("in the end", 1)
	h.limited, h.fixed = false, true
	pass(0.2, 10)
	is("when the environment says how", 1)
}

func TestAProcessThatNeedsMuchHasRoomToDouble(t *testing.T) {
	for live, want := range map[uint64]int64{0: smallHeap, smallLive - 1: smallHeap, smallLive: 2*smallLive + headroom, 100 << 20: 224 << 20} {
		if got := limitFor(live, 1); got != want {
			t.Errorf("%d bytes: %d, want %d", live, got, want)
		}
	}
	for live, want := range map[uint64]int64{0: 4 * smallHeap, smallLive: 4 * smallHeap, 200 << 20: 424 << 20} {
		if got := limitFor(live, 4); got != want {
			t.Errorf("with four times the room, %d bytes: %d, want %d", live, got, want)
		}
	}
}
