package client

import (
	"context"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// WatchOptions select events and where to begin. The zero value is every event
// from now on. Of FromSeq and Since at most one may be given.
type WatchOptions struct {
	// Pattern of event names: operation.rejected, operation.*, *.created, or ""
	// for all.
	Pattern string
	// Target is the entity that the events are about; "": any.
	Target string
	// Where decides about each event that the others let through; nil: yes. It is
	// called from the goroutine that reads.
	Where func(*op.Event) bool
	// FromSeq tells the events of this journal entry and of later ones, as
	// [op.Event.Seq] counts them. Those that have aged out are passed over.
	// Between partitions the feed is not in the order of the journal, so this is
	// for looking back and not for going on where another watch ended: for that,
	// give a handler a name (see [Client.On]).
	FromSeq uint64
	// Since begins with what was told at this instant, by the server's clock.
	Since time.Time
}

// Watch tells events as they happen, in the order of the feed, until ctx ends or
// the loop is left; neither is an error, and nothing is left running. It begins
// with what happens after the call: what is submitted between Watch and the loop
// is seen. Reading an iterator twice begins at the same place twice.
//
//	for e, err := range c.Watch(ctx, client.WatchOptions{Pattern: "operation.rejected"}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(e.OpID, e.Reason)
//	}
//
// An event that the system tells twice, after a take-over, comes once. The events
// of one partition keep their order; between partitions there is none. An error is
// the last element: [ErrInvalid] for the options, [ErrUnavailable] for a feed that
// cannot be read. A lost connection is none: the watch goes on where it was.
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[op.Event, error] {
	from, err := c.begin(ctx, &o)
	return func(yield func(op.Event, error) bool) {
		if err != nil {
			yield(op.Event{}, err)
			return
		}
		for e, err := range from.read(ctx, c) {
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// streamInfo is where the server is asked about a stream.
const streamInfo = "$JS.API.STREAM.INFO."

// selection is which events to tell and from where on.
type selection struct {
	bus   *bus.Bus
	query bus.EventQuery
	match func(*op.Event) bool
}

// begin checks the options and finds the place to begin at.
func (c *Client) begin(ctx context.Context, o *WatchOptions) (*selection, error) {
	subject, match, err := o.filter()
	if err != nil {
		return nil, err
	}
	if o.FromSeq > 0 && !o.Since.IsZero() {
		return nil, mistake("", op.CodeBadValue, "since", "a watch begins at a sequence or at an instant, not at both")
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	ctx, stop := c.permitted(ctx, streamInfo+bus.StreamIntake+`"`, streamInfo+bus.StreamEvents+`"`, streamInfo+`OBJ_OPS_SNAPSHOTS"`)
	defer stop()
	b, err := c.feed(ctx)
	if e := denied(ctx); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	f := &selection{bus: b, match: match, query: bus.EventQuery{Subjects: []string{subject}, Since: o.Since}}
	switch {
	case o.FromSeq > 0:
		f.query.Since = toldAfter(ctx, b, o.FromSeq)
	case o.Since.IsZero():
		s, err := b.JetStream().Stream(ctx, bus.StreamEvents)
		if e := denied(ctx); e != nil {
			return nil, e
		}
		if err != nil {
			return nil, c.lost("", err, "the feed of events cannot be read")
		}
		f.query.FromSeq = s.CachedInfo().State.LastSeq + 1
	}
	return f, nil
}

// Looking for the place in the feed of a journal entry.
const (
	// clockMargin is how far the clocks of two servers of a cluster may differ
	// without an event being missed: one may lead the journal, another the feed.
	clockMargin = time.Minute
	// placeTimeout bounds the look at the journal. A client need not have the
	// right to read it.
	placeTimeout = 3 * time.Second
)

// toldAfter is an instant before which no event of a journal entry was told; the
// zero time, which is the beginning of the feed, where the entry cannot be read.
func toldAfter(ctx context.Context, b *bus.Bus, seq uint64) time.Time {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	e, err := b.JournalGet(ctx, seq)
	if err != nil {
		return time.Time{}
	}
	return e.Time.Add(-clockMargin)
}

// filter is what the server selects by, and what is left to do.
func (o *WatchOptions) filter() (subject string, match func(*op.Event) bool, err error) {
	if o.Target != "" && !op.Token(o.Target) {
		return "", nil, mistake("", op.CodeBadID, "target", "%.80q is not the id of an entity", o.Target)
	}
	pattern := o.Pattern
	if pattern == "" || pattern == "*" || pattern == ">" {
		pattern = "*.*"
	}
	kind, name, ok := strings.Cut(pattern, ".")
	if _, bad := path.Match(pattern, ""); !ok || bad != nil || kind == "" || name == "" || strings.ContainsAny(pattern, "> \t\r\n/") || strings.Contains(name, ".") {
		return "", nil, mistake("", op.CodeBadValue, "pattern", "%.80q is neither the name of an event nor a pattern such as operation.*", o.Pattern)
	}
	subject = bus.EventFilter(wild(kind)+"."+wild(name), o.Target)
	return subject, func(e *op.Event) bool {
		named, err := path.Match(pattern, string(e.Name))
		return err == nil && named && e.Seq >= o.FromSeq && (o.Where == nil || o.Where(e))
	}, nil
}

// wild is the token of a subject that lets through what the pattern does, and
// maybe more.
func wild(pattern string) string {
	if op.Token(pattern) {
		return pattern
	}
	return "*"
}

// read tells the events of the selection, each once.
func (f *selection) read(ctx context.Context, c *Client) iter.Seq2[op.Event, error] {
	return func(yield func(op.Event, error) bool) {
		ctx, stop := c.permitted(ctx, "$JS.API.CONSUMER.CREATE."+bus.StreamEvents+".")
		defer stop()
		var told recent
		for m, err := range f.bus.Events(ctx, f.query) {
			if err != nil {
				yield(op.Event{}, c.lost("", err, "the feed of events broke off"))
				return
			}
			var e op.Event
			if !decodeEvent(m.Data, &e) || told.seen(e.ID) {
				continue
			}
			if f.match(&e) && !yield(e, nil) {
				return
			}
		}
		if e := denied(ctx); e != nil {
			yield(op.Event{}, e)
		}
	}
}

// recentIDs is how many event ids are remembered. Repeats come from a take-over,
// within seconds.
const recentIDs = 8192

// recent remembers the last ids that it was asked about.
type recent struct {
	ids  map[string]struct{}
	ring []string
	next int
}

// seen reports whether id was asked about before, not too long ago.
func (r *recent) seen(id string) bool {
	if r.has(id) {
		return true
	}
	r.add(id)
	return false
}

func (r *recent) has(id string) bool { _, ok := r.ids[id]; return ok }

func (r *recent) add(id string) {
	if r.has(id) {
		return
	}
	if r.ids == nil {
		r.ids = map[string]struct{}{}
	}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, id)
	} else {
		delete(r.ids, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % recentIDs
	}
	r.ids[id] = struct{}{}
}
