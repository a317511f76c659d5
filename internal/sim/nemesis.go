package sim

import (
	"strconv"
	"time"
)

// harass lets the larger faults happen, one after the other, while there is
// trouble.
func (w *world) harass() {
	k := w.k
	k.after(k.between(0, 2*w.nemesis), func() {
		if w.healed {
			return
		}
		switch n := k.rng.IntN(100); {
		case n < 25:
			w.elect()
		case n < 50:
			w.pause()
		case n < 65:
			w.kill()
		case n < 92:
			w.move()
		default:
			w.putPolicy()
		}
		w.harass()
	})
}

// elect changes the leader of a stream, or of all.
func (w *world) elect() {
	k := w.k
	all := w.all()
	if k.chance(700) {
		i := k.rng.IntN(len(all))
		all = all[i : i+1]
	}
	down := k.between(0, 30*time.Millisecond) // a leader that steps down
	if k.chance(400) {
		down = k.between(0, 6*time.Second) // one that is killed
	}
	stale := k.between(0, 500*time.Millisecond)
	for _, s := range all {
		s.elect(k.now, k.now+down, stale)
		w.stats.Elections++
		k.trace.add(k.now, "", "ELECTION", s.name, uint64(down), uint64(stale))
		if s == w.work {
			w.queue.forget()
		}
	}
}

// pause lets a process stand still, as SIGSTOP, a collection or a swap do.
func (w *world) pause() {
	k := w.k
	all := w.processes()
	p := all[k.rng.IntN(len(all))]
	if p.dead {
		return
	}
	d := k.between(time.Millisecond, 200*time.Millisecond)
	if k.chance(500) {
		d = k.between(0, 8*time.Second)
	}
	p.pause(d)
	w.stats.Pauses++
	k.trace.add(k.now, p.name, "PAUSE", "", uint64(d), 0)
}

// kill ends a process wherever it is.
func (w *world) kill() {
	k := w.k
	all := w.processes()
	if p := all[k.rng.IntN(len(all))]; !p.dead {
		w.stats.Crashes++
		k.trace.add(k.now, p.name, "KILLED", "", 0, 0)
		p.crash()
	}
}

// move gives a partition to a resolver. The others hear of it some time later:
// until then several believe that it is theirs.
func (w *world) move() {
	k := w.k
	part, to := k.rng.IntN(w.partitions), k.rng.IntN(len(w.servers))
	k.trace.add(k.now, w.servers[to].name, "BELIEVES TO OWN", "p"+strconv.Itoa(part), 0, 0)
	w.stats.FalseClaims++
	w.servers[to].claim(part)
	for i, s := range w.servers {
		if i != to && s.claims[part] {
			k.after(k.between(0, 3*time.Second), func() {
				if !w.healed {
					s.unclaim(part)
				}
			})
		}
	}
}

// heal ends the faults. What is under way still arrives. A part of the processes
// is gone for good, and somebody who was paused may wake up much later.
func (w *world) heal() {
	k := w.k
	w.healed = true
	w.faults = Faults{}
	k.trace.add(k.now, "", "HEALED", "", 0, 0)
	for _, s := range w.all() {
		s.downUntil, s.staleUntil = min(s.downUntil, k.now), min(s.staleUntil, k.now+500*time.Millisecond)
	}
	owners := w.survivors(len(w.servers), func(i int) *process { return w.servers[i].process })
	w.survivors(len(w.workers), func(i int) *process { return w.workers[i].process })
	w.survivors(len(w.clients), func(int) *process { return nil })
	for _, c := range w.clients {
		c.revive()
	}
	for p := range w.partitions {
		to := owners[p%len(owners)]
		for i, s := range w.servers {
			if i != to {
				s.unclaim(p)
			}
		}
		w.servers[to].claim(p)
	}
}

// survivors decides which of n processes go on: at least one of them. The others
// are dead, or will find out later that the world has gone on.
func (w *world) survivors(n int, of func(int) *process) []int {
	k := w.k
	sure := k.rng.IntN(n)
	var kept []int
	for i := range n {
		p := of(i)
		switch {
		case p == nil:
		case i != sure && k.chance(150):
			p.gone = true
			p.crash()
		case i != sure && k.chance(150) && !p.dead:
			p.pause(k.between(time.Second, 20*time.Second))
		default:
			p.revive()
			kept = append(kept, i)
		}
	}
	return kept
}
