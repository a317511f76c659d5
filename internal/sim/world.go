package sim

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/resolver"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// world is one history under way.
type world struct {
	*cluster
	servers       []*server
	workers       []*worker
	clients       []*submitter
	queue         queue
	check         *check
	snapshotEvery uint64
	slowly        int           // attempts beside their handler, in a thousand
	trouble       time.Duration // how long the faults last
	nemesis       time.Duration // the mean pause between two of the larger ones
	wrap          func(*world, resolver.Log) resolver.Log
	told          func([]byte) []byte // nil: the truth
	healed        bool
}

// newWorld draws everything about a history from its seed.
func newWorld(seed uint64, o Options) *world {
	k := newKernel(seed)
	rng := k.rng
	stats := &Stats{Histories: 1}
	w := &world{cluster: newCluster(k, 1+rng.IntN(3), stats), wrap: o.wrap, told: o.told}
	w.cluster.w = w
	w.queue.w = w
	replicated := rng.IntN(2) == 0
	for _, s := range w.all() {
		s.replicated = replicated
	}
	for _, s := range []*stream{w.intake, w.buckets["OPS_ENTITIES"], w.buckets["OPS_OPERATIONS"], w.buckets["OPS_DEAD"]} {
		s.fresh = !o.StaleViews
	}
	w.snapshotEvery = uint64(3 + rng.IntN(40))
	w.slowly = rng.IntN(500)
	w.trouble = k.between(time.Second, 10*time.Second)
	w.nemesis = k.between(100*time.Millisecond, 3*time.Second)
	// Each kind of fault is off in some histories and common in others.
	rate := func(most int) int {
		if rng.IntN(3) == 0 {
			return 0
		}
		return rng.IntN(most)
	}
	w.faults = Faults{
		Lost: rate(20), Late: rate(20), Unheard: rate(20), Busy: rate(40), Short: rate(500), Crash: rate(6), Twice: rate(150),
		Dropped: rate(80), Stall: rate(40), Slow: rate(30),
	}
	w.check = newCheck(w)
	w.journal.stored = func(m *message) {
		w.check.step(m)
	}
	w.intake.stored = w.arrived
	w.work.stored = w.queue.add
	w.events.stored = w.happened
	w.buckets["OPS_CONFIG"].stored = func(*message) { w.newPolicy() }
	for i := range 1 + rng.IntN(3) {
		w.servers = append(w.servers, w.addServer(fmt.Sprintf("r%d", i+1)))
	}
	for i := range 1 + rng.IntN(3) {
		w.workers = append(w.workers, w.addWorker(fmt.Sprintf("x%d", i+1)))
	}
	for i := range 1 + rng.IntN(3) {
		w.clients = append(w.clients, w.addClient(fmt.Sprintf("c%d", i+1)))
	}
	return w
}

// say is what becomes of an answer on its way.
func (w *world) say(data []byte) []byte {
	if w.told == nil {
		return data
	}
	return w.told(data)
}

// processes are all of them, in order.
func (w *world) processes() []*process {
	var all []*process
	for _, s := range w.servers {
		all = append(all, s.process)
	}
	for _, x := range w.workers {
		all = append(all, x.process)
	}
	for _, c := range w.clients {
		all = append(all, c.process)
	}
	return all
}

// begin starts the processes and what troubles them.
func (w *world) begin() {
	k := w.k
	w.putPolicy()
	skewed := k.chance(500)
	for _, p := range w.processes() {
		if skewed {
			w.stats.WrongClocks++
			p.offset = k.between(-10*time.Minute, 10*time.Minute)
			p.drift = k.rng.Float64()*0.02 - 0.01
		}
		p.start()
	}
	for p := range w.partitions {
		w.servers[p%len(w.servers)].claim(p)
	}
	w.harass()
}

// arrived has the owners of a partition read what was stored in the intake.
func (w *world) arrived(m *message) {
	p, _, _, err := bus.ParseIntake(m.subject)
	if err != nil {
		panic(err)
	}
	for _, s := range w.servers {
		if !s.dead && s.reigns[p] != nil {
			s.reigns[p].deliver()
		}
	}
}

// happened tells the executors of an event that may be about an attempt of
// theirs.
func (w *world) happened(m *message) {
	name, _, err := bus.ParseEvent(m.subject)
	if err != nil || name != op.EventCancelled && name != op.EventPreempted && name != op.EventRetry {
		return
	}
	for _, x := range w.workers {
		scope := x.scope
		if w.k.chance(w.faults.Dropped) || scope.dead {
			continue
		}
		w.k.after(w.k.between(50*time.Microsecond, 5*time.Millisecond), func() {
			if !scope.dead {
				x.slow.Rumour(m.data)
				x.quick.Rumour(m.data)
			}
		})
	}
}

// putPolicy replaces the policy, at once and without a fault: what is tried here
// is how the others take it.
func (w *world) putPolicy() {
	rng := w.k.rng
	pick := func(texts ...string) string { return texts[rng.IntN(len(texts))] }
	text := fmt.Sprintf(`{"staging_window":%q,"grace_period":%q,"attempt_timeout":%q,"retry_base_delay":"5ms","retry_max_delay":"200ms",`+
		`"preemption":%q,"default_max_retries":%d,"max_staged_per_target":%d,"max_executing_per_partition":%d,"operation_queue_size":%d,`+
		`"types":{"steady":{},"modify_field":{%s}}%s}`,
		pick("0s", "1ms", "10ms", "50ms"), pick("0s", "20ms", "100ms"), pick("300ms", "1s", "3s"), pick("off", "after_grace", "after_grace"),
		rng.IntN(4), pick2(rng.IntN(4) == 0, 2, 100), pick2(rng.IntN(4) == 0, 1, 50), pick2(rng.IntN(6) == 0, 6, 1000),
		pick("", "", `"on_conflict":"coalesce"`, `"on_conflict":"supersede"`), pick("", "", "", `,"aging":{"every":"100ms","step":1,"max":3}`))
	_, code := w.buckets["OPS_CONFIG"].publish(w.k.now, "$KV.OPS_CONFIG.policy", []byte(text), nats.Header{})
	w.stats.Policies++
	w.k.trace.add(w.k.now, "", "policy", text, uint64(code), 0)
}

func pick2(yes bool, a, b int) int {
	if yes {
		return a
	}
	return b
}

// newPolicy has the resolvers hear of it.
func (w *world) newPolicy() {
	for _, s := range w.servers {
		if s.process.scope == nil {
			continue
		}
		scope := s.scope
		w.k.after(w.k.between(time.Millisecond, 300*time.Millisecond), func() {
			scope.spawn(func(*task) { s.readPolicy() })
		})
	}
}
