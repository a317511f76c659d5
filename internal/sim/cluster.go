package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Faults are how often each kind of fault happens, in a thousand of its
// occasions. A seed draws them, so that histories differ in kind.
type Faults struct {
	Lost    int // a request that never arrives
	Late    int // a request that arrives after its sender has given up
	Unheard int // an answer that never arrives
	Busy    int // a write that is told to try again
	Short   int // an append whose sender loses patience at once
	Crash   int // a process dies at a call of the log: before it, or between it and its answer
	Twice   int // a report or a delivery that comes twice
	Dropped int // a report, an answer to it or an event that is lost
	Stall   int // an intake feed that stands still for a while
	Slow    int // a call that takes much longer than others
}

// cluster is the model of the server: the streams, and how requests reach them.
type cluster struct {
	k          *kernel
	w          *world // it belongs to; nil where the model is tried alone
	partitions int
	faults     Faults
	stats      *Stats
	intake     *stream
	journal    *stream
	work       *stream
	events     *stream
	buckets    map[string]*stream // by name, as in their subjects
	objects    map[string][]byte  // snapshots
	control    []string           // by partition: a token that leads there
	doubts     []string           // ids of steps whose outcome stayed unknown
}

func newCluster(k *kernel, partitions int, stats *Stats) *cluster {
	c := &cluster{
		k: k, partitions: partitions, stats: stats,
		intake: newStream(bus.StreamIntake, 2*time.Minute, false), journal: newStream(bus.StreamJournal, 2*time.Minute, false),
		work: newStream(bus.StreamWork, 2*time.Minute, false), events: newStream(bus.StreamEvents, 10*time.Second, false),
		buckets: map[string]*stream{}, objects: map[string][]byte{}, control: make([]string, partitions),
	}
	for _, name := range []string{"OPS_ENTITIES", "OPS_OPERATIONS", "OPS_DEAD", "OPS_CONFIG", "OPS_MARKS"} {
		c.buckets[name] = newStream("KV_"+name, 2*time.Minute, true)
	}
	for i, missing := 0, partitions; missing > 0; i++ {
		if p := bus.PartitionOf(strconv.Itoa(i), partitions); c.control[p] == "" {
			c.control[p] = strconv.Itoa(i)
			missing--
		}
	}
	return c
}

// all are the streams whose leader may change.
func (c *cluster) all() []*stream {
	return []*stream{c.intake, c.journal, c.work, c.events, c.buckets["OPS_ENTITIES"], c.buckets["OPS_OPERATIONS"], c.buckets["OPS_MARKS"]}
}

// route finds the stream of a subject, and the subject as the stream stores it.
func (c *cluster) route(subject string) (*stream, string) {
	t := strings.SplitN(subject, ".", 4)
	switch {
	case t[0] == "$KV" && len(t) > 2:
		return c.buckets[t[1]], subject
	case len(t) < 3 || t[0] != "ops":
	case t[1] == "journal":
		return c.journal, subject
	case t[1] == "work":
		return c.work, subject
	case t[1] == "event":
		return c.events, subject
	case len(t) == 3:
		return c.intake, "ops.intake." + strconv.Itoa(bus.PartitionOf(t[2], c.partitions)) + "." + t[1] + "." + t[2]
	}
	panic("sim: no stream takes " + subject)
}

// errNoAnswer: nobody knows what became of the request.
var errNoAnswer = errors.New("sim: no answer")

// refusal is the server's no.
type refusal int

func (r refusal) Error() string { return fmt.Sprintf("sim: refused with code %d", int(r)) }

// attemptTimeout is how long a sender waits for the answer to one request, as
// internal/bus does.
const attemptTimeout = 2 * time.Second

// latency draws how long a message is under way.
func (c *cluster) latency() time.Duration {
	if c.k.chance(c.faults.Slow) {
		return c.k.between(5*time.Millisecond, 1500*time.Millisecond)
	}
	return c.k.between(20*time.Microsecond, 600*time.Microsecond)
}

// call makes a request of the running task to the leader of a stream; do is what
// the leader does with it. The error is errNoAnswer, whatever became of it, or
// codeNobody.
func (c *cluster) call(s *stream, what, key string, write bool, do func() int) (err error) {
	t := c.k.current
	t.alive()
	p := t.scope.proc
	c.maybeCrash(p, what, key)
	t.sleep(c.latency())
	k := c.k
	act := func(what string) {
		code := do()
		if code != codeOK {
			what += " " + strconv.Itoa(code)
		}
		k.trace.add(k.now, p.name, what, key, s.last, 0)
	}
	switch {
	case k.now < s.downUntil && (!write || k.chance(500)):
		if k.chance(300) {
			t.sleep(c.latency())
			return refusal(codeNobody)
		}
		t.sleep(attemptTimeout)
		return errNoAnswer
	case k.now < s.downUntil: // the next leader may find it in its log
		c.stats.InElection++
		k.after(s.downUntil-k.now, func() { act(what + " (after an election)") })
		t.sleep(attemptTimeout)
		return errNoAnswer
	case k.chance(c.faults.Lost):
		c.stats.Lost++
		k.trace.add(k.now, p.name, what+" is lost", key, 0, 0)
		t.sleep(attemptTimeout)
		return errNoAnswer
	case write && k.chance(c.faults.Late):
		c.stats.Late++
		k.after(k.between(0, 12*time.Second), func() { act(what + " (late)") })
		t.sleep(attemptTimeout)
		return errNoAnswer
	case write && k.chance(c.faults.Busy):
		c.stats.Busy++
		t.sleep(c.latency())
		return refusal(codeBusy)
	}
	act(what)
	c.maybeCrash(p, what+", done", key)
	if k.chance(c.faults.Unheard) {
		c.stats.Unheard++
		k.trace.add(k.now, p.name, what+" unheard", key, 0, 0)
		t.sleep(attemptTimeout)
		return errNoAnswer
	}
	t.sleep(c.latency())
	return nil
}

// maybeCrash ends the process of the running task now and then.
func (c *cluster) maybeCrash(p *process, what, key string) {
	if c.k.chance(c.faults.Crash) {
		c.stats.Crashes++
		c.k.trace.add(c.k.now, p.name, "DIES at "+what, key, 0, 0)
		p.crash()
		panic(crashed{})
	}
}

// publish makes one attempt to store a message.
func (c *cluster) publish(m *nats.Msg) (ack bus.Ack, err error) {
	s, subject := c.route(m.Subject)
	header := maps.Clone(m.Header) // the sender may use its message again
	code := codeOK
	err = c.call(s, "publish", subject, true, func() int {
		var a bus.Ack
		a, code = s.publish(c.k.now, subject, m.Data, header)
		ack = a
		c.k.trace.add(c.k.now, "", "  data", first(header, headerExpected), a.Seq, digest(m.Data))
		if a.Duplicate {
			c.stats.Duplicates++
		}
		return code
	})
	if err == nil && code != codeOK {
		err = refusal(code)
	}
	return ack, err
}

// read asks for a message until somebody answers; nil: there is none. stale
// allows the answer of a leader that was deposed.
func (c *cluster) read(s *stream, what, key string, find func(upTo uint64) *message) *message {
	for n := 0; ; n++ {
		var m *message
		err := c.call(s, what, key, false, func() int {
			upTo := s.last
			if c.k.now < s.staleUntil && s.staleAt < upTo && c.k.chance(300) {
				upTo = s.staleAt
				c.stats.Stale++
			}
			if m = find(upTo); m == nil {
				return codeNotFound
			}
			return codeOK
		})
		if err == nil {
			return m
		}
		c.pause(n)
	}
}

// pause is the wait before the n-th repetition, as in internal/bus.
func (c *cluster) pause(n int) {
	c.k.current.sleep(min(2*time.Millisecond<<min(n, 10), 250*time.Millisecond))
}

// newID draws an id like a random UUID from the seed.
func (c *cluster) newID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], c.k.rng.Uint64())
	binary.BigEndian.PutUint64(b[8:], c.k.rng.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return uuid.UUID(b).String()
}
