package resolver

import (
	"context"
	"time"
)

// housekeeping takes a snapshot now and then. It cannot harm: the journal holds
// everything.
func (p *partition) housekeeping(ctx context.Context) {
	if p.number-p.lastSnapshot >= p.cfg.SnapshotEvery {
		p.lastSnapshot = p.number
		// Taken here, where nothing moves; kept once the step is told.
		select {
		case p.emitter.queue <- outputs{step: p.number, seq: p.seq, saved: p.snapshotOf()}:
		case <-p.emitter.ended:
		case <-ctx.Done():
		}
	}
}

// trimEvery is how often the intake is trimmed behind the cursor. Its limit is
// the backpressure, so what is consumed must not count for long.
const trimEvery = time.Second

// trimmer trims until ctx ends. The journal holds everything that was consumed.
func (p *partition) trimmer(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	trimmed := uint64(0)
	for {
		if cursor := p.consumed.Load(); cursor > trimmed {
			p.trim(ctx, cursor)
			trimmed = cursor
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *partition) trim(ctx context.Context, cursor uint64) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := p.bus.TrimIntake(ctx, p.id, cursor); err != nil {
		p.log.Warn("the intake could not be trimmed", "error", err)
	}
}
