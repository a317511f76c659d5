package torture

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TakeoverOptions say how to measure take-overs.
type TakeoverOptions struct {
	Rounds int           // default 100
	Lease  time.Duration // of the resolvers; 0: their default
}

// Takeovers is what became of the killing of the resolver that owns everything.
// Durations are in nanoseconds, counted from the kill.
type Takeovers struct {
	Rounds int           `json:"rounds"`
	Lease  time.Duration `json:"lease"` // 0: the default
	// First is until the first operation that was submitted after the kill was
	// decided, All until one of every partition was, Each of every partition.
	First Spread `json:"first"`
	All   Spread `json:"all"`
	Each  Spread `json:"each"`
}

// Spread sums up durations.
type Spread struct {
	Count int           `json:"count"`
	Min   time.Duration `json:"min"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

// spread sorts its argument. A percentile is the smallest value that so many per
// cent do not exceed.
func spread(all []time.Duration) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[max(0, int(math.Ceil(q*float64(len(all))))-1)] }
	return Spread{Count: len(all), Min: all[0], P50: at(0.5), P99: at(0.99), Max: all[len(all)-1]}
}

// MeasureTakeovers kills the resolver that owns every partition, with another one
// standing by, over and over, on a healthy server and under a light load, and
// measures how long it takes until operations are decided again. The report is
// that of a torture: nothing may be lost or decided twice.
func MeasureTakeovers(ctx context.Context, o Options, t TakeoverOptions) (*Takeovers, *Report, error) {
	if o.Partitions == 0 {
		o.Partitions = bus.DefaultLayout().Partitions
	}
	if t.Rounds <= 0 {
		t.Rounds = 100
	}
	result := &Takeovers{Rounds: t.Rounds, Lease: t.Lease}
	rep, err := torture(ctx, o, func(ctx context.Context, r *run) error {
		k := &killer{run: r, lease: t.Lease, rounds: t.Rounds}
		if err := k.prepare(ctx); err != nil {
			return err
		}
		var bad error
		r.enter("take-overs", k.progress)
		if err := r.under(ctx, func(ctx context.Context) { bad = k.kills(ctx) }); err != nil || bad != nil {
			return errors.Join(bad, err)
		}
		result.First, result.All, result.Each = spread(k.first), spread(k.all), spread(k.each)
		return nil
	})
	return result, rep, err
}

// killer measures take-overs.
type killer struct {
	*run
	lease  time.Duration
	rounds int
	stand  *process // who stands by
	owner  *process
	n      int // processes so far
	probes []string

	mu               sync.Mutex
	round            int
	first, all, each []time.Duration
}

func (k *killer) progress() float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return float64(k.round) / float64(k.rounds)
}

// prepare starts everybody and creates the entities, those of the probes, too: one
// a partition.
func (k *killer) prepare(ctx context.Context) error {
	if _, err := k.role(partExecutor, "x1"); err != nil {
		return err
	}
	if _, err := k.role(partSubmitter, "s1"); err != nil {
		return err
	}
	var err error
	if k.stand, err = k.resolverCalled(standbyName(k.Partitions)); err != nil {
		return err
	}
	if err := k.load.prepare(ctx, k.ledger); err != nil {
		return err
	}
	for p := range k.Partitions {
		for i := 0; len(k.probes) == p; i++ {
			if name := fmt.Sprintf("%s-probe-%d", k.name, i); bus.PartitionOf(name, k.Partitions) == p {
				k.probes = append(k.probes, name)
				k.load.do(ctx, task{ops: []op.Operation{k.load.draw.create(name, "")}})
			}
		}
	}
	if err := k.load.settle(ctx, k.ledger, time.Minute); err != nil {
		return err
	}
	return k.enthrone(ctx)
}

// standbyName finds a name that loses against most others, so that there are many
// for the owners.
func standbyName(partitions int) (best string) {
	most := -1.0
	for c := range 1000 {
		name := fmt.Sprintf("standby-%d", c)
		share := 1.0 // of the names to which every partition falls beside this one
		for p := range partitions {
			lost := 0
			for o := range 64 {
				if bus.Owner([]string{name, fmt.Sprintf("other-%d", o)}, p) != name {
					lost++
				}
			}
			share *= float64(lost) / 64
		}
		if share > most {
			best, most = name, share
		}
	}
	return best
}

// ownerName finds the next name to which every partition falls while the one that
// stands by lives.
func (k *killer) ownerName() string {
	for {
		k.n++
		name := fmt.Sprintf("owner-%d", k.n)
		all := true
		for p := range k.Partitions {
			all = all && bus.Owner([]string{k.stand.name, name}, p) == name
		}
		if all {
			return name
		}
	}
}

func (k *killer) resolverCalled(name string) (*process, error) {
	args := []string{partResolver, "--name", name, "--server", k.url}
	if k.lease > 0 {
		args = append(args, "--lease", k.lease.String())
	}
	return k.spawn(name, args, "")
}

// enthrone starts a resolver that comes to own everything, and waits until it does.
func (k *killer) enthrone(ctx context.Context) error {
	name := k.ownerName()
	p, err := k.resolverCalled(name)
	if err != nil {
		return err
	}
	k.owner = p
	return k.until(ctx, name+" to own everything", func() bool {
		k.ledger.mu.Lock()
		defer k.ledger.mu.Unlock()
		for p := range k.Partitions {
			if reigns := k.ledger.reigns[p]; len(reigns) == 0 || reigns[len(reigns)-1].owner != name {
				return false
			}
		}
		return true
	})
}

// until waits for something that has to happen within half a minute.
func (k *killer) until(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("torture: waited for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// kills does the rounds.
func (k *killer) kills(ctx context.Context) error {
	rng := source(k.Seed, "takeover")
	defer func() {
		for _, p := range []*process{k.stand, k.owner} {
			p.kill()
			_ = p.hold.Close()
		}
		// Somebody has to finish what is open.
		if _, err := k.resolver("after"); err != nil {
			k.surprise("%v", err)
		}
	}()
	for range k.rounds {
		rest(ctx, drawTime(rng, 200*time.Millisecond, 1200*time.Millisecond)) // any moment of a lease
		if err := k.once(ctx); err != nil {
			return err
		}
		if err := k.enthrone(ctx); err != nil {
			return err
		}
	}
	return nil
}

// once kills the owner, asks each partition for something, and measures.
func (k *killer) once(ctx context.Context) error {
	if k.owner.ended() {
		return fmt.Errorf("torture: %s ended before it was killed: %s\n%s", k.owner.name, k.owner.cmd.ProcessState, lastLines(k.owner.tail.last(), 12))
	}
	killed := time.Now()
	k.owner.kill()
	_ = k.owner.hold.Close()
	var ids []string
	for _, target := range k.probes {
		o := op.Operation{
			ID: fmt.Sprintf("%s-probe-%s-%d", k.name, target[len(k.name)+7:], killed.UnixNano()), Type: op.TypeModifyField, Target: target, Priority: op.Normal,
			OnConflict: op.OnConflictQueue, Params: encode(map[string]any{"field_name": "score", "new_value": 1}),
		}
		ids = append(ids, o.ID)
		k.load.do(ctx, task{ops: []op.Operation{o}})
	}
	var took []time.Duration
	err := k.until(ctx, "every partition to decide again", func() bool {
		took = took[:0]
		for _, id := range ids {
			if at := k.ledger.fate(id).grant; !at.IsZero() {
				took = append(took, at.Sub(killed))
			}
		}
		return len(took) == len(ids)
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.round++
	k.first = append(k.first, slices.Min(took))
	k.all = append(k.all, slices.Max(took))
	k.each = append(k.each, took...)
	k.devil.note("resolver-kill", fmt.Sprintf("%s: the first after %.2fs, all after %.2fs", k.owner.name, slices.Min(took).Seconds(), slices.Max(took).Seconds()))
	return nil
}
