package torture

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"
)

// slot is a place in which a process is kept running: when one ends, for whatever
// reason, the next one takes its place after a pause, under another name.
type slot struct {
	site    *site
	role    string
	base    string // the names of its processes begin with it
	monitor int    // a server's port for its health
	args    func(name string) []string
	pause   func() time.Duration // before the next process; nil: none

	mu     sync.Mutex
	gen    int
	now    *process
	next   string // what the failpoints of the next process do
	hurt   bool   // the end of the current process is our doing
	parked bool   // nobody takes the place until it is opened again
	over   bool
	loop   sync.WaitGroup
}

// start starts the first process.
func (v *slot) start() error {
	p, err := v.spawn()
	if err != nil {
		return err
	}
	v.loop.Go(func() { v.keep(p) })
	return nil
}

// spawn starts the next process, unless the slot is closed or parked.
func (v *slot) spawn() (*process, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over || v.parked {
		return nil, nil
	}
	v.gen++
	name := fmt.Sprintf("%s-%d", v.base, v.gen)
	if v.role == partServer {
		name = v.base // a server comes back as itself
	}
	log := name
	if v.role == partServer {
		log = fmt.Sprintf("%s-%d", name, v.gen)
	}
	armed := v.next
	v.next, v.hurt = "", false
	p, err := v.site.spawn(log, v.args(name), armed)
	if err == nil {
		v.now = p
	}
	return p, err
}

// keep waits for the end of each process and starts the next one.
func (v *slot) keep(p *process) {
	for p != nil {
		<-p.done
		v.site.hit(p.tail.acted())
		v.mu.Lock()
		// Whoever is asked to end may end as it likes, but not by a panic.
		explained := v.over || v.hurt && p.cmd.ProcessState.ExitCode() != exitPanic || p.tail.acted() != "" && p.died() != ""
		v.mu.Unlock()
		if !explained {
			v.site.surprise("%s ended by itself: %s\n%s", p.name, p.cmd.ProcessState, lastLines(p.tail.last(), 12))
		}
		if v.pause != nil {
			<-time.After(v.pause())
		}
		next, err := v.spawn()
		if err != nil {
			v.site.surprise("%v", err)
			return
		}
		p = next
	}
}

// lastLines is the end of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// current is the process of this moment; it may have ended.
func (v *slot) current() *process {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// arm says what the failpoints of the next process do.
func (v *slot) arm(terms string) {
	v.mu.Lock()
	v.next = terms
	v.mu.Unlock()
}

// end sends a signal that ends the current process and returns it.
func (v *slot) end(sig syscall.Signal) *process {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hurt = true
	v.now.signal(sig)
	return v.now
}

// park ends the current process and leaves the place empty.
func (v *slot) park(sig syscall.Signal) {
	v.mu.Lock()
	v.parked = true
	v.mu.Unlock()
	<-v.end(sig).done
	v.loop.Wait()
}

// open starts a process in a place that was parked.
func (v *slot) open() error {
	v.mu.Lock()
	v.parked = false
	v.mu.Unlock()
	return v.start()
}

// partingTime is what a role gets to hand its work over when it is asked to end.
const partingTime = 6 * time.Second

// parted waits for the end of a process that was asked to end. What another fault
// has stopped meanwhile cannot end, so that only the time counts in which it runs.
func (v *slot) parted(ctx context.Context, p *process) error {
	const look = 100 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	patience := partingTime + v.site.slack
	for awake := time.Duration(0); awake < patience; {
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if !p.stopped() {
				awake += look
			}
		}
	}
	v.site.surprise("%s is alive %s after SIGTERM\n%s", p.name, patience, lastLines(p.tail.last(), 12))
	p.kill()
	return nil
}

// close ends the current process and leaves the place empty for good.
func (v *slot) close() {
	v.mu.Lock()
	v.over = true
	p := v.now
	v.mu.Unlock()
	if p != nil {
		if v.site.Server {
			p.signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(partingTime):
			}
		}
		p.kill()
		_ = p.hold.Close()
	}
	v.loop.Wait()
}
