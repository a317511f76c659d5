package submitter

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Defaults of [PackOptions].
const (
	DefaultPackOps   = 200
	DefaultPackBytes = 64 << 10
	DefaultWindow    = 4096
)

// PackOptions say how to pack. The zero value is usable.
type PackOptions struct {
	MaxOps   int // operations of one message, at most [op.MaxBulk]; 0 means DefaultPackOps
	MaxBytes int // bytes of one message, at most [op.MaxBulkBody]; 0 means DefaultPackBytes; one operation may always be sent
	// Window is how many operations are held back so that messages become full;
	// 0 means DefaultWindow. [Packer.Flush] sends them at once.
	Window int
	Trace  string // traceparent of every message, or ""
	// Progress is told after every round and while the log is full. It is
	// called from one goroutine at a time and may be nil.
	Progress func(Progress)
	// Acked gets the ids of the operations of each message once they are
	// durable. It is called from one goroutine at a time and may be nil.
	Acked func(ids []string)

	// ended tells where in the log the operations of a message stand, or why they
	// are not known to be there; they are named by the order of Add, from 0. It is
	// called from one goroutine at a time.
	ended func(nth []int, seq uint64, err error)
}

// Progress is how far a bulk load has come.
type Progress struct {
	Added    int  // operations given to the packer
	Acked    int  // operations that are durable
	Messages int  // intake messages they took
	Full     bool // there is no room in the log, a partition or on a target; the packer waits
}

// Packer packs many operations into few messages. Operations on one target reach
// the log in the order of [Packer.Add]. So do a parent and its child: a child is
// sent with its parent in one message or after it was acknowledged, so it is
// always found (contract §3.3).
//
// It works in rounds of at most one message a partition. All messages of a round
// are sent at once, and the next round when all are acknowledged. An operation
// goes into the first round that has room and keeps both orders, so a long line
// of parents in different partitions costs rounds, but does not hold up others.
//
// A packer is for one goroutine.
type Packer struct {
	s *Submitter
	o PackOptions

	rounds   []*round // open; rounds[0] has the number first
	first    int
	buffered int
	targets  map[string]int   // the last open round with an operation on it
	placed   map[string]place // of operations in open rounds, by id
	flying   chan error       // the outcome of the round that is being sent; nil: none
	err      error            // the packer is broken

	mu       sync.Mutex // progress is told from the goroutines that publish
	progress Progress
}

type place struct{ round, partition int }

// round is at most one message a partition.
type round struct {
	packs map[int]*pack
}

// pack is one message in the making.
type pack struct {
	body    []byte // an array without its closing bracket
	ids     []string
	nth     []int
	targets []string
	types   []string
}

// NewPacker returns an empty packer.
func (s *Submitter) NewPacker(o PackOptions) *Packer {
	if o.MaxOps <= 0 {
		o.MaxOps = DefaultPackOps
	}
	o.MaxOps = min(o.MaxOps, op.MaxBulk)
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultPackBytes
	}
	o.MaxBytes = min(o.MaxBytes, op.MaxBulkBody)
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	return &Packer{s: s, o: o, targets: map[string]int{}, placed: map[string]place{}}
}

// Add takes one operation, as [op.Decode] returns it; one without an id gets
// one, which is returned. It waits while the window is full. An [*op.Error] is
// about this operation alone; any other error is final, and what was not acked
// by then may or may not be stored.
func (p *Packer) Add(ctx context.Context, o op.Operation) (id string, err error) {
	if p.err != nil {
		return "", p.err
	}
	if o.ID == "" {
		o.ID = p.s.newID()
	}
	err = p.s.book.under(ctx, func(r *rules) error {
		if e := r.check(&o); e != nil {
			return e
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	encoded, err := op.Encode(&o)
	if err != nil {
		return "", err
	}
	if len(encoded) > op.MaxBody {
		return "", op.Errorf(op.CodeTooLarge, "", "with its defaults written out operation %s has %d bytes, the limit is %d", o.ID, len(encoded), op.MaxBody)
	}
	p.mu.Lock()
	nth := p.progress.Added
	p.progress.Added++
	p.mu.Unlock()
	p.put(&o, encoded, nth)
	for p.buffered > p.o.Window {
		if err := p.next(ctx); err != nil {
			return "", err
		}
	}
	return o.ID, nil
}

// put finds the round for an operation. It must not be before the last operation
// on its target, nor before its parent; nor with its parent unless they share
// the message.
func (p *Packer) put(o *op.Operation, encoded []byte, nth int) {
	partition := bus.PartitionOf(o.Target, p.s.partitions)
	n := max(p.first, p.targets[o.Target])
	if parent, open := p.placed[o.Parent]; open {
		if parent.partition != partition {
			parent.round++
		}
		n = max(n, parent.round)
	}
	for ; ; n++ {
		for n >= p.first+len(p.rounds) {
			p.rounds = append(p.rounds, &round{packs: map[int]*pack{}})
		}
		r := p.rounds[n-p.first]
		k := r.packs[partition]
		if k == nil {
			k = &pack{}
			r.packs[partition] = k
		}
		if len(k.ids) > 0 && (len(k.ids) >= p.o.MaxOps || len(k.body)+len(encoded)+2 > p.o.MaxBytes) {
			continue
		}
		k.add(o, encoded, nth)
		p.targets[o.Target] = n
		p.placed[o.ID] = place{n, partition}
		p.buffered++
		return
	}
}

func (k *pack) add(o *op.Operation, encoded []byte, nth int) {
	if len(k.ids) == 0 {
		k.body = append(k.body, '[')
	} else {
		k.body = append(k.body, ',')
	}
	k.body = append(k.body, encoded...)
	k.ids = append(k.ids, o.ID)
	k.nth = append(k.nth, nth)
	k.targets = append(k.targets, o.Target)
	k.types = append(k.types, o.Type)
}

// Flush sends what is held back and waits until it is durable. The error is
// final, as that of [Packer.Add].
func (p *Packer) Flush(ctx context.Context) error {
	for p.err == nil && len(p.rounds) > 0 {
		if err := p.next(ctx); err != nil {
			return err
		}
	}
	return p.land()
}

// Err is the error that ended the load, or nil.
func (p *Packer) Err() error { return p.err }

// Progress is how far the load has come.
func (p *Packer) Progress() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress
}

// next waits for the round in flight and sends the first open one. The caller
// goes on filling the others meanwhile.
func (p *Packer) next(ctx context.Context) error {
	if err := p.land(); err != nil {
		return err
	}
	r := p.rounds[0]
	p.rounds = p.rounds[1:]
	for _, k := range r.packs {
		p.buffered -= len(k.ids)
		for i, id := range k.ids {
			if p.placed[id].round == p.first {
				delete(p.placed, id)
			}
			if p.targets[k.targets[i]] == p.first {
				delete(p.targets, k.targets[i])
			}
		}
	}
	p.first++
	flying := make(chan error, 1)
	p.flying = flying
	go func() { flying <- p.send(ctx, r) }()
	return nil
}

// land waits for the round in flight.
func (p *Packer) land() error {
	if p.flying != nil && p.err == nil {
		p.err = <-p.flying
		p.flying = nil
	}
	return p.err
}

// send publishes the messages of a round at once and waits for all.
func (p *Packer) send(ctx context.Context, r *round) error {
	errs := make(chan error, len(r.packs))
	for _, k := range r.packs {
		go func() { errs <- p.sendPack(ctx, k) }()
	}
	var all error
	for range r.packs {
		all = errors.Join(all, <-errs)
	}
	if all != nil {
		return fmt.Errorf("submitter: bulk: %w", all)
	}
	p.tell(func(*Progress) {})
	return nil
}

func (p *Packer) sendPack(ctx context.Context, k *pack) error {
	subject, body := bus.BulkSubject(k.targets[0]), append(k.body, ']')
	if len(k.ids) == 1 {
		subject, body = bus.SubmitSubject(k.targets[0]), body[1:len(body)-1]
	}
	full := func() { p.tell(func(v *Progress) { v.Full = true }) }
	var ack bus.Ack
	err := p.room(ctx, k, full)
	if err == nil {
		ack, err = p.s.publish(ctx, subject, body, "", trace(p.o.Trace), full)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.o.ended != nil {
		p.o.ended(k.nth, ack.Seq, err)
	}
	if err != nil {
		return err
	}
	for _, t := range k.types {
		p.s.metrics.Operations.WithLabelValues(t).Inc()
	}
	p.progress.Acked += len(k.ids)
	p.progress.Messages++
	p.progress.Full = false
	if p.o.Acked != nil {
		p.o.Acked(k.ids)
	}
	return nil
}

// room waits until nobody says any more that there is none for a message. The
// error is the refusal, when ctx ends first.
func (p *Packer) room(ctx context.Context, k *pack, full func()) error {
	partition := bus.PartitionOf(k.targets[0], p.s.partitions)
	for {
		e := p.s.news.admit(partition, k.targets...)
		if e == nil {
			return nil
		}
		full()
		if !wait(ctx, hold(e)) {
			return fmt.Errorf("%w: %w", e, context.Cause(ctx))
		}
	}
}

// tell changes the progress and reports it.
func (p *Packer) tell(change func(*Progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.progress)
	if p.o.Progress != nil {
		p.o.Progress(p.progress)
	}
}
