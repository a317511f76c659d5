package bus

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const (
	memberPrefix = "resolver."
	// memberHeartbeat lets a watcher find out early that its consumer is gone:
	// two of these are part of the time in which an expiry must be seen.
	memberHeartbeat = 500 * time.Millisecond
	// beatsPerLease is how often a lease is renewed in its time.
	beatsPerLease = 3
	// leaveMarker is how long the note of a graceful leave stays.
	leaveMarker = time.Minute
)

// Membership is one member's view of who is alive. It decides who tries to own
// a partition, never who may: that is the journal's fence.
//
// A member is gone when the server says that its lease has run out, or when it has
// been silent while we were heard often enough (see [Membership.silent]). The
// server alone is not enough: one that is killed or restarted while a lease runs
// out may keep that lease for ever, and with it the partitions of whoever held it.
type Membership struct {
	b       *Bus
	name    string
	id      string // of this incarnation; tells us from a namesake
	ttl     time.Duration
	changed chan struct{}
	lost    chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member
	rev     uint64 // of our lease; 0: we have none
	left    bool
}

// Join takes the lease of name, a token, and keeps it until ctx ends or
// [Membership.Leave]. It waits while another holder of the name is alive. ttl is
// how long a dead member is taken for alive, in whole seconds, at least one.
//
// When ctx ends without Leave the lease runs out by itself, as if the process
// had died.
func (b *Bus) Join(ctx context.Context, name string, ttl time.Duration) (*Membership, error) {
	if !op.Token(name) {
		return nil, fmt.Errorf("bus: join: %q is no token of 1 to %d characters", name, op.MaxToken)
	}
	if ttl < time.Second || ttl%time.Second != 0 {
		return nil, fmt.Errorf("bus: join: a lease of %s: the server wants whole seconds, at least one", ttl)
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &Membership{
		b: b, name: name, id: nuid.Next(), ttl: ttl, cancel: cancel, members: map[string]*member{},
		changed: make(chan struct{}, 1), lost: make(chan struct{}, 1),
	}
	if err := m.acquire(ctx); err != nil {
		cancel()
		return nil, err
	}
	known := make(chan struct{})
	m.done.Add(2)
	go m.watch(ctx, sync.OnceFunc(func() { close(known) }))
	go m.renew(ctx)
	select {
	case <-known:
		return m, nil
	case <-ctx.Done():
		m.cancel()
		m.done.Wait()
		return nil, fmt.Errorf("bus: join: %w", ctx.Err())
	}
}

// Members lists who is alive, sorted. Our own name is in it while our lease
// is.
func (m *Membership) Members() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.members))
}

// Changed is told after Members has changed; several changes may be one.
func (m *Membership) Changed() <-chan struct{} { return m.changed }

// Lost is told when our own lease ran out, after a pause or without a server.
// The others have taken us for dead; the lease is taken anew by itself.
func (m *Membership) Lost() <-chan struct{} { return m.lost }

// Leave gives the lease up, so that the others need not wait for it to run out,
// and ends the membership. ctx bounds it.
func (m *Membership) Leave(ctx context.Context) error {
	m.mu.Lock()
	m.left = true
	m.mu.Unlock()
	m.cancel()
	m.done.Wait()
	m.mu.Lock()
	rev := m.rev
	m.rev = 0
	m.mu.Unlock()
	if rev == 0 {
		return nil
	}
	h := nats.Header{}
	h.Set(headerKVOperation, "DEL")
	h.Set(jetstream.MsgTTLHeader, leaveMarker.String())
	h.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(rev, 10))
	_, err := m.b.Publish(ctx, m.subject(), nil, "", h)
	if err != nil && code(err) != codeWrongSequence {
		return fmt.Errorf("bus: leave: %w", err)
	}
	return nil
}

func (m *Membership) subject() string { return kvSubject(bucketLeases, memberPrefix+m.name) }

// write puts our lease behind revision rev.
func (m *Membership) write(ctx context.Context, rev uint64) (uint64, error) {
	msg := &nats.Msg{Subject: m.subject(), Data: []byte(m.id), Header: nats.Header{
		jetstream.MsgTTLHeader:              {m.ttl.String()},
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(rev, 10)},
	}}
	ack, err := m.b.request(ctx, msg)
	return ack.Seq, err
}

// acquire takes the lease as soon as nobody else has it. One that nobody has renewed
// for twice its time is taken with a compare-and-set: its holder is gone, and the
// server has missed that.
func (m *Membership) acquire(ctx context.Context) error {
	var last uint64 // revision of the lease in our way
	var since time.Time
	for n := 0; ; n++ {
		held, found, err := m.b.value(ctx, bucketLeases, memberPrefix+m.name)
		if err != nil {
			return fmt.Errorf("bus: join: %w", err)
		}
		if found && string(held.Data) == m.id {
			m.hold(held.Seq) // an attempt whose answer was lost
			return nil
		}
		if held.Seq != last {
			last, since = held.Seq, time.Now()
		}
		if !found || time.Since(since) > 2*leaseTime(held.header(jetstream.MsgTTLHeader), m.ttl) {
			rev, err := around(failJoin, func() (uint64, error) { return m.write(ctx, held.Seq) })
			if err == nil {
				m.hold(rev)
				return nil
			}
			if hopeless(err) && code(err) != codeWrongSequence {
				return fmt.Errorf("bus: join: %w", err)
			}
		}
		if err := pause(ctx, n); err != nil {
			return fmt.Errorf("bus: join as %s: %w", m.name, err)
		}
	}
}

func (m *Membership) hold(rev uint64) {
	m.mu.Lock()
	m.rev = rev
	m.mu.Unlock()
}

// renew keeps the lease, and takes it anew when it was lost.
func (m *Membership) renew(ctx context.Context) {
	defer m.done.Done()
	tick := time.NewTicker(m.ttl / beatsPerLease)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		rev := m.rev
		m.mu.Unlock()
		attempt, cancel := context.WithTimeout(ctx, m.ttl/beatsPerLease)
		rev, err := around(failBeat, func() (uint64, error) { return m.write(attempt, rev) })
		cancel()
		switch {
		case err == nil:
			m.hold(rev)
		case code(err) == codeWrongSequence:
			if !m.regain(ctx) {
				return
			}
		}
		// Any other error: nobody answered; the next tick tries again.
	}
}

// regain handles a lease that is not at the revision we know: an answer of ours
// was lost, or the lease ran out. It reports whether we have it.
func (m *Membership) regain(ctx context.Context) bool {
	held, found, err := m.b.value(ctx, bucketLeases, memberPrefix+m.name)
	if err == nil && found && string(held.Data) == m.id {
		m.hold(held.Seq)
		return true
	}
	if err == nil {
		m.hold(0)
		tell(m.lost)
	}
	return m.acquire(ctx) == nil
}

// watch follows the leases. known is called when the first look is complete.
func (m *Membership) watch(ctx context.Context, known func()) {
	defer m.done.Done()
	defer known() // whoever waits is not to wait for ever
	filter := kvSubject(bucketLeases, memberPrefix+"*")
	prefix := kvSubject(bucketLeases, memberPrefix)
	for ctx.Err() == nil {
		fresh := map[string]*member{}
		complete, begun := false, false
		// The note of an expiry lasts a second. Whoever was away for longer has
		// missed it, so a feed that had to begin again is one to begin anew.
		once := func(uint64) bool { first := !begun; begun = true; return first }
		err := m.b.feed(ctx, feedConfig{
			stream: "KV_" + bucketLeases, filters: []string{filter}, policy: jetstream.DeliverLastPerSubjectPolicy,
			batch: 256, hb: memberHeartbeat, begin: once,
		}, func(d delivery) bool {
			name := strings.TrimPrefix(d.Subject(), prefix)
			lease := &member{rev: d.seq, ttl: leaseTime(d.Headers().Get(jetstream.MsgTTLHeader), m.ttl)}
			if isMarker(d.Headers()) {
				lease = nil
			}
			if !complete {
				if lease != nil {
					fresh[name] = lease
				}
				if complete = d.pending == 0; complete {
					m.replace(fresh)
					known()
				}
				return true
			}
			m.set(name, lease)
			if name == m.name && lease != nil {
				m.silent()
			}
			return true
		})
		if err != nil { // ctx, or nothing can help
			return
		}
	}
}

// member is one that is taken for alive.
type member struct {
	rev   uint64        // of its lease, as far as we have heard
	ttl   time.Duration // of its lease
	beats int           // of ours that were heard since
}

// leaseTime reads how long a lease runs; what cannot be read is as long as ours.
func leaseTime(header string, ours time.Duration) time.Duration {
	if ttl, err := time.ParseDuration(header); err == nil && ttl > 0 {
		return ttl
	}
	return ours
}

// replace is told who is there when the feed begins.
func (m *Membership) replace(members map[string]*member) {
	m.mu.Lock()
	changed := len(members) != len(m.members)
	for name := range members {
		changed = changed || m.members[name] == nil
	}
	m.members = members
	m.mu.Unlock()
	if changed {
		tell(m.changed)
	}
}

// set is told of a renewed lease, or of one that is gone: nil.
func (m *Membership) set(name string, lease *member) {
	m.mu.Lock()
	changed := (m.members[name] == nil) != (lease == nil)
	if lease != nil {
		m.members[name] = lease
	} else {
		delete(m.members, name)
	}
	m.mu.Unlock()
	if changed {
		tell(m.changed)
	}
}

// silent is called when a beat of ours has come back to us. Whoever has not been
// heard while enough of ours were, so that a lease would have run out between the
// first and the last of them, is taken for dead, and its lease is removed unless it
// moves. All beats come in the one order of the log, so no clock is asked, and who
// was paused, or was cut off, does not take the others for dead when it is back: it
// reads their beats before more of its own.
func (m *Membership) silent() {
	gone := map[string]uint64{}
	m.mu.Lock()
	for name, o := range m.members {
		if name == m.name {
			continue
		}
		if o.beats++; o.beats > int(math.Ceil(float64(o.ttl)/float64(m.ttl/beatsPerLease)))+1 {
			gone[name] = o.rev
			delete(m.members, name)
		}
	}
	m.mu.Unlock()
	for name, rev := range gone {
		msg := &nats.Msg{Subject: kvSubject(bucketLeases, memberPrefix+name), Header: nats.Header{
			headerKVOperation:                   {"DEL"},
			jetstream.MsgTTLHeader:              {leaveMarker.String()},
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(rev, 10)},
		}}
		_ = m.b.nc.PublishMsg(msg) // only tidies up: whoever reads the leases next will wait as we did
	}
	if len(gone) > 0 {
		tell(m.changed)
	}
}

// tell signals without waiting; a signal not yet taken stands for both.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Owner is the member that should own a partition: rendezvous hashing, so that
// a member that comes or goes moves only its own share. Empty without members.
// Everyone with the same members names the same owner; nothing depends on it.
func Owner(members []string, partition int) string {
	best, most := "", uint64(0)
	for _, m := range members {
		h := xxhash.Sum64String(m + "\x00" + strconv.Itoa(partition))
		if best == "" || h > most || h == most && m < best {
			best, most = m, h
		}
	}
	return best
}
