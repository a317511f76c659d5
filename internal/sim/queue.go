package sim

import (
	"slices"
	"time"
)

// queue is a model of the consumer that the executors share: each message goes to
// one of them, and comes back when it is neither acknowledged nor given back.
type queue struct {
	w    *world
	jobs []*job
}

// job is one message of the queue.
type job struct {
	m         *message
	delivered int
	due       time.Duration // may be delivered from then on
	gone      bool
}

// ackWait is when work that nobody acknowledges comes back.
const ackWait = 60 * time.Second

// add puts a stored message into the queue.
func (q *queue) add(m *message) {
	j := &job{m: m}
	q.jobs = append(q.jobs, j)
	q.call(0)
}

// call has the executors look when something is due.
func (q *queue) call(d time.Duration) {
	q.w.k.after(d, func() {
		at := q.w.k.rng.IntN(len(q.w.workers))
		for i := range q.w.workers { // whoever asks first
			if x := q.w.workers[(at+i)%len(q.w.workers)]; !x.dead {
				x.fetch()
			}
		}
	})
}

// next delivers a message that is due, nil if there is none.
func (q *queue) next(now time.Duration) *job {
	for _, j := range q.jobs {
		if j.due <= now {
			if j.delivered++; j.delivered > 1 {
				q.w.stats.Redelivered++
			}
			j.due = now + ackWait
			q.call(ackWait)
			return j
		}
	}
	return nil
}

// ack removes a message, unless the acknowledgement is lost. An old one, of a
// delivery that was given up since, counts as well.
func (q *queue) ack(j *job, delivery int) {
	k := q.w.k
	if k.chance(q.w.faults.Dropped) {
		q.w.stats.AcksLost++
		return
	}
	if j.delivered > delivery {
		q.w.stats.LateAcks++
	}
	j.gone = true
	q.jobs = slices.DeleteFunc(q.jobs, func(o *job) bool { return o == j })
}

func (q *queue) nak(j *job, d time.Duration) {
	if !j.gone {
		j.due = q.w.k.now + d
		q.call(d)
	}
}

func (q *queue) touch(j *job) {
	if !j.gone {
		j.due = q.w.k.now + ackWait
	}
}

// forget delivers again what somebody has in hand, as a consumer does whose
// leader went away.
func (q *queue) forget() {
	for _, j := range q.jobs {
		if j.due > q.w.k.now {
			j.due = q.w.k.now
		}
	}
	q.call(0)
}
