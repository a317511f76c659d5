package executor

import "sync/atomic"

// Stats counts what an executor did since it started. Its fields may be read at
// any time from any goroutine.
type Stats struct {
	InFlight   atomic.Int64  // attempts taken and not yet answered
	Running    atomic.Int64  // handlers running now
	Received   atomic.Uint64 // work messages
	Succeeded  atomic.Uint64 // attempts that had an effect to report
	Failed     atomic.Uint64 // attempts that failed, panics and timeouts included
	Panics     atomic.Uint64 //
	Timeouts   atomic.Uint64 // the lease ended before the handler did
	Revoked    atomic.Uint64 // attempts taken away while their handler ran
	Abandoned  atomic.Int64  // handlers that have not returned though their attempt is over, now
	Beats      atomic.Uint64 // heartbeats that were answered
	Accepted   atomic.Uint64 // reports that the owner committed
	Refused    atomic.Uint64 // reports of attempts that were superseded
	Unanswered atomic.Uint64 // reports given up
	Repeats    atomic.Uint64 // reports sent again
	Superseded atomic.Uint64 // work redelivered or past its lease that was not run: its attempt is over
	Garbage    atomic.Uint64 // work that cannot be read
	HandedBack atomic.Uint64 // work returned unstarted at the end
}

// Counts is a reading of [Stats], for people and statistics.
type Counts struct {
	InFlight   int64  `json:"in_flight"`
	Running    int64  `json:"running"`
	Received   uint64 `json:"received"`
	Succeeded  uint64 `json:"succeeded"`
	Failed     uint64 `json:"failed"`
	Panics     uint64 `json:"panics"`
	Timeouts   uint64 `json:"timeouts"`
	Revoked    uint64 `json:"revoked"`
	Abandoned  int64  `json:"abandoned"`
	Beats      uint64 `json:"heartbeats"`
	Accepted   uint64 `json:"accepted"`
	Refused    uint64 `json:"refused"`
	Unanswered uint64 `json:"unanswered"`
	Repeats    uint64 `json:"repeats"`
	Superseded uint64 `json:"superseded"`
	Garbage    uint64 `json:"garbage"`
	HandedBack uint64 `json:"handed_back"`
}

// Read returns the counts now. Each is exact; together they are not of one
// instant.
func (s *Stats) Read() Counts {
	return Counts{
		InFlight: s.InFlight.Load(), Running: s.Running.Load(), Received: s.Received.Load(),
		Succeeded: s.Succeeded.Load(), Failed: s.Failed.Load(), Panics: s.Panics.Load(), Timeouts: s.Timeouts.Load(),
		Revoked: s.Revoked.Load(), Abandoned: s.Abandoned.Load(), Beats: s.Beats.Load(),
		Accepted: s.Accepted.Load(), Refused: s.Refused.Load(), Unanswered: s.Unanswered.Load(), Repeats: s.Repeats.Load(),
		Superseded: s.Superseded.Load(), Garbage: s.Garbage.Load(), HandedBack: s.HandedBack.Load(),
	}
}
