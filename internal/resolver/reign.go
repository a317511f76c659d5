package resolver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Node is what the partitions of one process share: the policy in force and what
// is known about ancestors. [Run] has one; internal/sim makes its own and drives
// its partitions by hand.
type Node struct {
	cfg     *Config
	log     Log
	world   World
	kinship *kinship
	board   *board
	pace    *pace // nil: nobody waits
}

// NewNode returns the memory of a process that has just started. Of cfg it uses
// the name, the logger, the metrics and SnapshotEvery.
func NewNode(cfg Config, log Log, world World) *Node {
	cfg.defaults()
	return newNode(&cfg, log, world, newBoard(cfg.Logger, log.Layout().Partitions, func(uint64, *op.Error) {}, func(int) {}))
}

func newNode(cfg *Config, log Log, world World, b *board) *Node {
	return &Node{cfg: cfg, log: log, world: world, kinship: newKinship(log, world), board: b}
}

// PutPolicy shows a revision of the policy to the partitions.
func (n *Node) PutPolicy(data []byte, rev uint64) { n.board.put(data, rev) }

func (n *Node) partition(id int, log *slog.Logger) *partition {
	return &partition{id: id, cfg: n.cfg, bus: n.log, world: n.world, log: log, kinship: n.kinship, board: n.board, pace: n.pace}
}

// Reign is one partition in the hands of one process, driven step by step: what
// [Run] does in goroutines, with timers and subscriptions, its caller does in an
// order of its own. Only one of its methods may run at a time, except that [Reign.Emit],
// [Reign.Trim] and what the world was asked to run may go on while [Reign.Turn]
// waits for the log.
//
// A method that returns an error ends the reign, as does whoever stops calling.
type Reign struct {
	p      *partition
	intake chan bus.IntakeMsg
}

// Reign returns a partition that has not been taken over yet.
func (n *Node) Reign(partition int) *Reign {
	return &Reign{p: n.partition(partition, n.cfg.Logger), intake: make(chan bus.IntakeMsg, 64)}
}

// TakeOver makes the process the owner of the partition.
func (r *Reign) TakeOver(ctx context.Context) error {
	if err := r.p.takeOver(ctx); err != nil {
		return err
	}
	r.p.kinship.passed(r.p.id, r.p.reached())
	r.p.consumed.Store(r.p.cursor)
	return nil
}

// Close gives the partition up.
func (r *Reign) Close() {
	r.p.close()
	r.p.kinship.gone(r.p.id)
}

// Epoch is the epoch of the reign, 0 before the take-over.
func (r *Reign) Epoch() uint64 { return r.p.epoch }

// Cursor is the last intake message that is consumed.
func (r *Reign) Cursor() uint64 { return r.p.cursor }

// Offer hands over the next intake message; false means that there is no room
// before the next turn.
func (r *Reign) Offer(m bus.IntakeMsg) bool {
	select {
	case r.intake <- m:
		return true
	default:
		return false
	}
}

// Report hands over a result or a heartbeat. reply is called after the commit.
func (r *Reign) Report(ctx context.Context, data []byte, reply func([]byte)) {
	r.p.receive(ctx, data, reply)
}

// Waiting reports whether something has arrived that the next turn would take.
func (r *Reign) Waiting() bool {
	rules, _ := r.p.board.newer(r.p.machine.Policy().Revision)
	return len(r.intake) > 0 || len(r.p.results) > 0 || len(r.p.kin) > 0 || rules != nil
}

// Crowded reports whether so much waits to be told that a turn might have to
// wait for [Reign.Emit].
func (r *Reign) Crowded() bool { return len(r.p.emitter.queue) > cap(r.p.emitter.queue)/2 }

// Untold reports whether something waits for [Reign.Emit].
func (r *Reign) Untold() bool { return len(r.p.emitter.queue) > 0 }

// Idle is how long the next turn may be put off when nothing arrives.
func (r *Reign) Idle() time.Duration { return r.p.idle() }

// Turn makes a step of whatever has arrived and is due, if there is anything. It
// is one round of the loop of [Run].
func (r *Reign) Turn(ctx context.Context) error {
	g, _, alone := r.p.begin(ctx)
	if !alone {
		r.p.gather(g, r.intake)
	}
	if err := r.p.step(ctx, g); err != nil {
		return err
	}
	r.p.ask(ctx) // whoever waits now, waits for the answers, too
	return nil
}

// Emit tells what has been committed since. told is false when there was nothing
// to tell; then the emission mark is brought up to date.
func (r *Reign) Emit(ctx context.Context) (told bool, err error) {
	e := r.p.emitter
	select {
	case out := <-e.queue:
		return true, e.emitAll(ctx, out)
	default:
		return false, e.mark(ctx)
	}
}

// Trim removes what is consumed from the intake.
func (r *Reign) Trim(ctx context.Context) { r.p.trim(ctx, r.p.consumed.Load()) }

// Deposed reports whether a reign ended because another process has taken the
// partition over.
func Deposed(err error) bool { return errors.Is(err, errDeposed) }
