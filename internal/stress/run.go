package stress

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/await"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Options say what to run. Bus and Profile are required.
type Options struct {
	Bus     *bus.Bus
	Profile Profile
	Name    string // of the run, a token; it starts every id. Default: drawn
	Seed    uint64
	// Drain is how long operations may take to end after the last submission.
	// Default 60 s.
	Drain time.Duration
	// Progress is called about five times a second, from one goroutine at a
	// time. It may be nil.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Elapsed  time.Duration
	Total    time.Duration // of the submissions
	Draining bool          // everything is submitted
	Refused  int
	await.Counts
}

const progressEvery = 200 * time.Millisecond

// Run runs the workload and returns its report. An error means that the run
// could not be finished: bad news about the operations is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Name == "" {
		id := op.NewID()
		o.Name = "r" + id[len(id)-6:]
	}
	if o.Drain == 0 {
		o.Drain = time.Minute
	}
	after, err := journalEnd(ctx, o.Bus)
	if err != nil {
		return nil, err
	}
	r := &run{
		Options: o, account: newAccounting(), watch: await.Start(ctx, o.Bus),
		load: NewWorkload(o.Profile, o.Name, o.Seed), started: time.Now(), cpu: cpu(),
	}
	defer r.watch.Stop()
	defer r.report()()
	if err := r.prepare(ctx); err != nil {
		return nil, fmt.Errorf("stress: creating the entities: %w", err)
	}
	r.mu.Lock()
	r.begun = time.Now()
	r.mu.Unlock()
	if err := r.bursts(ctx); err != nil {
		return nil, fmt.Errorf("stress: submitting: %w", err)
	}
	r.mu.Lock()
	r.submitted = time.Now()
	r.mu.Unlock()
	drain, cancel := context.WithTimeout(ctx, o.Drain)
	defer cancel()
	if err := r.watch.Wait(drain); err != nil && (ctx.Err() != nil || drain.Err() == nil) {
		return nil, fmt.Errorf("stress: waiting for the operations to end: %w", err)
	}
	ended := time.Now()
	used := process(cpu()-r.cpu, ended.Sub(r.started)) // before the journal is read, which is not the load
	if err := r.read(ctx, after); err != nil {
		return nil, err
	}
	return r.result(ended, used), nil
}

// run is one run under way.
type run struct {
	Options
	load    *Workload
	watch   *await.Watch
	started time.Time
	cpu     time.Duration // of the process before the run

	mu        sync.Mutex
	account   *accounting
	begun     time.Time // the first burst
	submitted time.Time // the last burst was acknowledged
	refused   int
	unknown   int // submissions repeated because nobody knew their outcome
}

// journalEnd is the sequence of the last journal entry, 0 for an empty journal.
func journalEnd(ctx context.Context, b *bus.Bus) (uint64, error) {
	var end uint64
	for p := range b.Layout().Partitions {
		e, _, err := b.JournalLast(ctx, p)
		if err != nil {
			return 0, fmt.Errorf("stress: end of the journal: %w", err)
		}
		end = max(end, e.Seq)
	}
	return end, nil
}

// prepare creates the entities and waits for them: parents before children.
func (r *run) prepare(ctx context.Context) error {
	parents, children := r.load.Prepare()
	for _, ops := range [][]op.Operation{parents, children} {
		if err := r.submitAll(ctx, ops); err != nil {
			return err
		}
		if err := r.watch.Wait(ctx); err != nil {
			return err
		}
	}
	if c := r.watch.Counts(); c.Succeeded != c.Expected {
		return fmt.Errorf("%d of %d were created", c.Succeeded, c.Expected)
	}
	return nil
}

// bursts submits every burst at its time. A burst that is late because an
// earlier one was slow does not change the times of the later ones.
func (r *run) bursts(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for b := range r.load.Bursts {
		timer.Reset(time.Until(r.begun.Add(b.At)))
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Wait())
		case <-timer.C:
		}
		g.Go(func() error {
			if err := r.submitAll(ctx, b.Ops); err != nil {
				return err
			}
			return r.cancel(ctx, b)
		})
	}
	return g.Wait()
}

// submitAll submits operations at the same time.
func (r *run) submitAll(ctx context.Context, ops []op.Operation) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range ops {
		g.Go(func() error { return r.submit(ctx, &ops[i]) })
	}
	return g.Wait()
}

func (r *run) submit(ctx context.Context, o *op.Operation) error {
	body, err := op.Encode(o)
	if err != nil {
		return err
	}
	err = r.publish(ctx, bus.SubmitSubject(o.Target), body, o.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.account.expect(o)
		r.watch.Expect(o.ID)
		return nil
	case errors.Is(err, bus.ErrIntakeFull):
		r.refused++
		return nil
	}
	return err
}

// publish repeats a message until it is known what became of it.
func (r *run) publish(ctx context.Context, subject string, body []byte, id string) error {
	for {
		_, err := r.Bus.Publish(ctx, subject, body, id, nil)
		if !errors.Is(err, bus.ErrUnknownOutcome) || ctx.Err() != nil {
			return err
		}
		r.mu.Lock()
		r.unknown++
		r.mu.Unlock()
	}
}

func (r *run) cancel(ctx context.Context, b Burst) error {
	for _, id := range b.Cancel {
		body := encode(map[string]string{"op_id": id})
		err := r.publish(ctx, bus.CancelSubject(b.Ops[0].Target), body, "cancel-"+id)
		if err != nil && !errors.Is(err, bus.ErrIntakeFull) {
			return err
		}
	}
	return nil
}

// read takes the journal of the run into account.
func (r *run) read(ctx context.Context, after uint64) error {
	for e, err := range r.Bus.JournalRead(ctx, -1, after) {
		if err != nil {
			return fmt.Errorf("stress: reading the journal: %w", err)
		}
		r.account.step(e.Time, e.Data)
	}
	return nil
}

// report tells the progress until the function it returns is called.
func (r *run) report() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				r.Progress(r.progress())
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

func (r *run) progress() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{Total: r.Profile.Duration, Refused: r.refused, Counts: r.watch.Counts(), Draining: !r.submitted.IsZero()}
	if !r.begun.IsZero() {
		p.Elapsed = time.Since(r.begun)
	}
	return p
}
