package resolver

import "time"

// clock tells the instants of the steps of one reign. It starts at the wall
// clock, or where the journal is if that is later, and goes on with the monotonic
// clock: a wall clock that is behind, or that is set back, never makes time
// stand still in a partition. No correctness depends on it.
type clock struct {
	read  func() time.Time
	begun time.Time // with the monotonic reading
	at    time.Time // the instant that begun stands for
}

func newClock(read func() time.Time, notBefore time.Time) clock {
	now := read()
	return clock{read: read, begun: now, at: later(now.UTC().Round(0), notBefore)}
}

func (c clock) now() time.Time { return c.at.Add(c.read().Sub(c.begun)) }

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
