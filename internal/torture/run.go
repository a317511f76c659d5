package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// run is one run under way.
type run struct {
	*site
	name   string
	load   *load
	ledger *ledger
	devil  *devil
	also   func(*Report)     // what the one who tortures has to say; may be nil
	doomed func(string) bool // whether a resolver was bound to fail; nil: none was

	begun, healed time.Time     // of the torture; when everything was well again
	tortured      time.Duration // how long it took

	mu    sync.Mutex
	phase string
	done  func() float64
}

// Run tortures a system at random for a while. An error means that the run could
// not be finished; what was found is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	return torture(ctx, o, func(ctx context.Context, r *run) error {
		if err := r.team(3, 3, 2); err != nil {
			return err
		}
		if err := r.load.prepare(ctx, r.ledger); err != nil {
			return err
		}
		r.enter("torture", func() float64 { return r.elapsed().Seconds() / r.Duration.Seconds() })
		return r.under(ctx, func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, r.Duration)
			defer cancel()
			r.devil.run(ctx)
		})
	})
}

// torture is what a run at random and a matrix share: do is what they do to the
// system.
func torture(ctx context.Context, o Options, do func(context.Context, *run) error) (*Report, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	lasting, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := newSite(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	id := op.NewID()
	r := &run{site: s, name: "t" + id[len(id)-6:], phase: "start", begun: time.Now()}
	r.ledger, r.load, r.devil = newLedger(r.name+"-"), newLoad(s, r.name), newDevil(s)
	if !o.Server {
		if err := handle(s.nc); err != nil {
			return nil, err
		}
	}
	after, err := verify.End(ctx, s.bus)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { r.ledger.follow(lasting, s.bus, after) })
	wg.Go(func() { r.report(lasting) })
	if err := do(ctx, r); err != nil {
		return nil, errors.Join(err, r.leave())
	}
	rep, err := r.finish(ctx)
	if err != nil {
		return nil, errors.Join(err, r.leave())
	}
	if rep.OK() && !o.Keep {
		s.close()
		return rep, s.remove()
	}
	rep.Kept = s.dir
	return rep, nil
}

// leave says where the rest of a run is that could not be finished.
func (r *run) leave() error { return fmt.Errorf("what is left is in %s", r.dir) }

// under puts the load on for as long as something is done to the system, heals it,
// and waits for the answers that are still missing then.
func (r *run) under(ctx context.Context, faults func(context.Context)) error {
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.begun = time.Now()
	r.mu.Unlock()
	r.devil.begun = r.begun
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.load.run(loading, r.Rate) })
	faults(ctx)
	cancel()
	r.tortured = time.Since(r.begun)
	r.enter("heal", nil)
	if err := r.heal(ctx); err != nil {
		return err
	}
	r.healed = time.Now()
	r.enter("quiescence", func() float64 { return time.Since(r.healed).Seconds() / r.Patience.Seconds() })
	return ctx.Err()
}

// finish waits until the system is quiet, and judges.
func (r *run) finish(ctx context.Context) (*Report, error) {
	if !r.Server {
		if _, err := r.bus.PutPolicy(ctx, []byte(policy(24*time.Hour))); err != nil {
			return nil, err
		}
	}
	rep := r.collect()
	if err := r.load.settle(ctx, r.ledger, r.Patience); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		rep.fail("not quiet after the last fault, and %s without a change: %v", r.Patience, err)
	}
	rep.Quiescence = time.Since(r.healed)
	r.enter("verify", nil)
	o := verify.Options{Quiescent: true, Patience: 30 * time.Second}
	if r.Server {
		o.Own = func(id string) bool { return strings.HasPrefix(id, r.name+"-") }
	}
	o.Progress = func(read, last uint64) {
		r.enter("verify", func() float64 { return float64(read) / float64(max(last, 1)) })
	}
	v, err := verify.Run(ctx, r.bus, o)
	if err != nil {
		return nil, err
	}
	rep.Verify = v
	if r.also != nil {
		r.also(rep)
	}
	r.judge(rep)
	return rep, nil
}

// elapsed is how long the torture, or what comes before it, has been going on.
func (r *run) elapsed() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.begun)
}

func (r *run) enter(phase string, done func() float64) {
	r.mu.Lock()
	r.phase, r.done = phase, done
	r.mu.Unlock()
}

// report tells the progress until ctx ends.
func (r *run) report(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.Progress(r.progress())
		}
	}
}

func (r *run) progress() Progress {
	r.mu.Lock()
	p := Progress{Phase: r.phase, Elapsed: time.Since(r.begun)}
	done := r.done
	r.mu.Unlock()
	if done != nil {
		p.Done = min(done(), 1)
	}
	c := r.load.book.counts()
	p.Accepted, p.Unknown = c[accepted], c[unknown]
	r.ledger.mu.Lock()
	p.Ended, p.Succeeded = r.ledger.ended, r.ledger.succeeded
	r.ledger.mu.Unlock()
	faults := r.devil.faults()
	if p.Faults = len(faults); p.Faults > 0 {
		last := faults[p.Faults-1]
		p.Last = last.Kind + " " + last.Text
	}
	r.site.mu.Lock()
	for _, n := range r.hits {
		p.Hits += n
	}
	r.site.mu.Unlock()
	return p
}
