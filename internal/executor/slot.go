package executor

import (
	"errors"
	"sync"
	"time"
)

// ErrStuck: as many handlers as may run at once do not return although their
// attempts are over, beside all those that were abandoned before. Only a new
// process gets rid of them.
var ErrStuck = errors.New("executor: handlers do not return")

// patienceWithHandlers is how long a handler may take to return when its attempt
// is over before its slot is given to others. It is asked again as often.
const patienceWithHandlers = time.Second

// slot is a handler's place among those that may run at once. A handler that
// minds neither its context nor its time would keep it for ever, so it is
// abandoned: the slot goes to others, and the handler counts as abandoned until
// it returns, if ever. How many may be abandoned is bounded; those above keep
// their slots, and when no slot is left the executor ends with [ErrStuck].
type slot struct {
	e              *executor
	opType, opID   string
	mu             sync.Mutex
	returned, gone bool
	stuck          bool
	timer          *time.Timer
}

// enter turns the slot that serve has taken into one with a handler in it.
func (e *executor) enter(opType, opID string) *slot {
	e.stats.Running.Add(1)
	e.metrics.Running.Inc()
	return &slot{e: e, opType: opType, opID: opID}
}

// leave is called when the handler has returned.
func (s *slot) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.returned = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.gone {
		s.e.abandoned.Add(-1)
		s.e.stats.Abandoned.Add(-1)
		s.e.metrics.Abandoned.Dec()
		return
	}
	if s.stuck {
		s.e.stuck.Add(-1)
	}
	s.free()
}

// overdue is called when nobody waits for the handler any more.
func (s *slot) overdue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.returned {
		s.timer = time.AfterFunc(patienceWithHandlers, s.abandon)
	}
}

func (s *slot) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.returned {
		return
	}
	if n := s.e.abandoned.Add(1); n > int64(s.e.cfg.MaxAbandoned) {
		s.e.abandoned.Add(-1)
		if !s.stuck {
			s.stuck = true
			if s.e.stuck.Add(1) == int64(s.e.cfg.Concurrency) {
				s.e.fail(ErrStuck)
			}
		}
		s.timer.Reset(patienceWithHandlers) // others may return
		return
	}
	if s.stuck {
		s.stuck = false
		s.e.stuck.Add(-1)
	}
	s.gone = true
	s.e.stats.Abandoned.Add(1)
	s.e.metrics.Abandoned.Inc()
	s.e.log.Warn("a handler does not return although its attempt is over; it is abandoned, and its slot goes to others",
		"op_type", s.opType, "op_id", s.opID, "abandoned", s.e.abandoned.Load())
	s.free()
}

func (s *slot) free() {
	s.e.stats.Running.Add(-1)
	s.e.metrics.Running.Dec()
	<-s.e.handlers
}
