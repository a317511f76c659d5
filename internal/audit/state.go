package audit

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

const timeFormat = time.RFC3339Nano

// key stands for an id. Ids are the clients' choice, so the hash has to be one
// for which nobody can make two ids meet. The zero key stands for no id.
type key [16]byte

func keyOf(id string) key {
	if id == "" {
		return key{}
	}
	h := sha256.Sum256([]byte(id))
	return key(h[:16])
}

// partition is the reconstructed state of one partition.
type partition struct {
	id      int
	step    uint64
	epoch   uint64
	cursor  uint64
	owner   string
	at      time.Time
	place   op.Place // of the last intake message consumed
	policy  arbiter.Policy
	open    map[key]*operation
	done    map[key]past
	kin     map[key]kin
	missing map[key][]*operation // staged operations by the ancestor at which their walk ended
	heard   uint32               // operations that ended or were told about
	targets map[string]*target

	backoffs alarms // ends of backoffs
	alarms   alarms // leases, deadlines and windows

	short bool      // the last step may have left behind what was due
	left  []*target // what it may have left undecided

	entities int
	running  int // executing operations
}

func newPartition(id int) *partition {
	return &partition{
		id: id, policy: arbiter.DefaultPolicy(),
		open: map[key]*operation{}, done: map[key]past{}, kin: map[key]kin{},
		missing: map[key][]*operation{}, targets: map[string]*target{},
	}
}

func (p *partition) target(id string) *target {
	t := p.targets[id]
	if t == nil {
		t = &target{id: id}
		p.targets[id] = t
	}
	return t
}

// byPlace returns the open operations in the order of the log.
func (p *partition) byPlace() []*operation {
	return slices.SortedFunc(maps.Values(p.open), func(a, b *operation) int {
		return cmp.Or(cmp.Compare(a.place.Seq, b.place.Seq), cmp.Compare(a.place.Index, b.place.Index), cmp.Compare(a.id, b.id))
	})
}

// operation is one that has no terminal record yet.
type operation struct {
	id         string
	key        key
	kind       string
	target     *target
	place      op.Place
	priority   op.Priority
	parent     key
	onConflict op.Conflict
	maxRetries int
	expected   *int64 // version of the entity
	accepted   time.Time
	expires    time.Time // never where zero

	status  op.Status
	slot    int // index in target.staged; -1 outside
	waiting bool
	due     time.Time // end of the backoff
	retries int
	lapses  int
	attempt int
	granted time.Time
	lease   time.Time
	failure *op.Failure
	winner  string

	rank    rank
	ranked  bool
	missing int  // index in partition.missing, where the rank has an unknown ancestor
	settled bool // that ancestor was looked for on behalf of this operation
}

// followUp reports whether o is the other side of a structural operation. Its
// first side is done, so it may not be lost.
func (o *operation) followUp() bool { return o.kind == op.TypeFollowUp }

// over reports whether the deadline or the maximum age of o has passed.
func (o *operation) over(at time.Time) bool { return !o.expires.IsZero() && !o.expires.After(at) }

// past is what is kept of an operation that ended: enough to recognise anything
// that follows, to inherit from it and to compare its record.
type past struct {
	parent   key
	winner   key
	seq      uint64 // of the intake
	ended    int64  // nanoseconds since 1970
	heard    uint32 // how many were heard of before it
	retries  uint16
	attempts uint16
	priority uint8
	status   uint8 // index in op.Statuses
	reason   uint8 // 1 + index in op.Reasons; 0 is none
}

// The words that past keeps as numbers.
var (
	statuses = op.Statuses()
	reasons  = func() []op.Reason {
		var all []op.Reason
		for _, r := range op.Reasons() {
			all = append(all, r.Reason)
		}
		return all
	}()
)

func (d *past) became() op.Status { return statuses[d.status] }

func (d *past) why() op.Reason {
	if d.reason == 0 {
		return ""
	}
	return reasons[d.reason-1]
}

// target is one staging area, at most one executing operation, and the entity.
type target struct {
	id        string
	staged    []*operation // in no order
	executing *operation
	opened    time.Time // when the staging area ceased to be empty
	closes    time.Time // when it may be decided
	unsure    bool      // opened and closes depend on an order that was not recorded
	doubtful  bool      // in this step, the staging area may have been empty for a moment or not
	touched   bool
	before    int // staged operations when the step first touched the target

	head    *entity.Entity
	tainted bool              // a change could not be folded; nothing more is known of it
	since   map[string]uint64 // by field: the revision that last set it
}

// stage puts o into its staging area. window is what o asks for.
func (t *target) stage(o *operation, at time.Time, window time.Duration) {
	o.waiting, o.ranked = false, false
	switch closes := at.Add(window); {
	case len(t.staged) == 0:
		t.opened, t.closes, t.unsure = at, closes, t.doubtful
	case t.opened.Add(window).Before(t.closes):
		t.closes = t.opened.Add(window)
	}
	o.slot = len(t.staged)
	t.staged = append(t.staged, o)
}

// unstage takes o out of its staging area or its backoff.
func (p *partition) unstage(o *operation) {
	o.waiting = false
	if o.slot < 0 {
		return
	}
	p.unwait(o)
	t := o.target
	last := len(t.staged) - 1
	t.staged[o.slot] = t.staged[last]
	t.staged[o.slot].slot = o.slot
	t.staged[last] = nil
	t.staged = t.staged[:last]
	o.slot = -1
}

// alarm is an instant at which something has to have happened.
type alarm struct {
	at      time.Time
	kind    alarmKind
	o       *operation
	t       *target
	attempt int
}

type alarmKind int

const (
	alarmLease alarmKind = iota
	alarmExpiry
	alarmBackoff
	alarmWindow
)

// live reports whether the alarm still means anything.
func (a *alarm) live() bool {
	switch a.kind {
	case alarmLease:
		return a.o.status == op.Executing && a.o.attempt == a.attempt
	case alarmExpiry:
		return !a.o.status.Terminal()
	case alarmBackoff:
		return a.o.waiting && a.o.due.Equal(a.at)
	case alarmWindow:
		return len(a.t.staged) > 0 && a.t.closes.Equal(a.at)
	}
	return false
}

type alarms []alarm

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarms) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *alarms) Push(x any) { *h = append(*h, x.(alarm)) }

// Pop implements heap.Interface.
func (h *alarms) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*h = old[:len(old)-1]
	return x
}

// set adds an alarm. Alarms are not taken out when they lose their meaning, so
// the heap is swept before it outgrows the open operations.
func (p *partition) set(h *alarms, x alarm) {
	if len(*h) > 4*len(p.open)+1024 {
		*h = slices.DeleteFunc(*h, func(x alarm) bool { return !x.live() })
		heap.Init(h)
	}
	heap.Push(h, x)
}

// due reports whether an alarm may be due at the instant.
func (h alarms) due(at time.Time) bool { return len(h) > 0 && !h[0].at.After(at) }

// next takes the next live alarm that is due at the instant.
func (h *alarms) next(at time.Time) (alarm, bool) {
	for h.due(at) {
		if x := heap.Pop(h).(alarm); x.live() {
			return x, true
		}
	}
	return alarm{}, false
}
