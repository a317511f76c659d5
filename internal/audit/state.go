package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
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

// long is enough of a key to tell two operations apart that nobody has made alike.
func (k key) long() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// short is enough of a key to compare a record with.
func (k key) short() uint32 { return binary.LittleEndian.Uint32(k[:]) }

// partition is the reconstructed state of one partition.
type partition struct {
	id       int
	step     uint64
	epoch    uint64
	cursor   uint64
	consumed uint64 // highest place in the intake of what was applied
	owner    string
	at       time.Time
	place    op.Place // of the last intake message consumed
	policy   arbiter.Policy
	open     map[key]*operation
	done     map[key]past
	kin      map[key]kin
	missing  map[key][]*operation // staged operations by the ancestor at which their walk ended
	heirs    map[key][]*operation // open operations by ancestor
	rivals   map[key][]*operation // open operations by submitter, type and target
	cut      ring[uint64]         // ancestors whose cancellation took their heirs along
	doomed   []*operation         // whose end is settled and has to be told
	heard    uint32               // operations that ended or were told about
	targets  map[string]*target

	backoffs alarms // ends of backoffs
	alarms   alarms // leases, ends of grace, deadlines and windows

	short bool      // the last step may have left behind what was due
	left  []*target // what it may have left undecided

	bounds        Bounds
	memory        memory
	told          stories // with Options.Events
	taken, stored bits    // of the intake, with Options.IntakeFrom

	entities int
	running  int // executing operations
	foreign  int // open operations of somebody else
}

func newPartition(id int) *partition {
	return &partition{
		id: id, policy: arbiter.DefaultPolicy(),
		open: map[key]*operation{}, done: map[key]past{}, kin: map[key]kin{},
		missing: map[key][]*operation{}, heirs: map[key][]*operation{}, rivals: map[key][]*operation{},
		targets: map[string]*target{},
	}
}

func (p *partition) target(id string) *target {
	t := p.targets[id]
	if t == nil {
		t = &target{id: id}
		p.targets[id] = t
		p.keep(t)
	}
	return t
}

// byPlace returns the open operations in the order of the log.
func (p *partition) byPlace() []*operation {
	return slices.SortedFunc(maps.Values(p.open), func(a, b *operation) int {
		return cmp.Or(cmp.Compare(a.place.Seq, b.place.Seq), cmp.Compare(a.place.Index, b.place.Index), cmp.Compare(a.id, b.id))
	})
}

// belongs notes whether o is somebody else's.
func (p *partition) belongs(o *operation, foreign bool) {
	switch {
	case foreign && !o.foreign:
		p.foreign++
	case !foreign && o.foreign:
		p.foreign--
	}
	o.foreign = foreign
}

// operation is one that has no terminal record yet. A decision about a crowd looks at
// each of it, so what it looks at stands first and together: from one line of the
// processor's cache to the next is most of what that costs.
type operation struct {
	onConflict  op.Conflict
	kind        string
	place       op.Place
	preemptions int
	retries     int
	maxRetries  int
	ranked      bool
	settled     bool // the ancestor that is unknown was looked for on behalf of this operation
	rank        rank

	id          string
	key         key
	submitter   string
	target      *target
	priority    op.Priority // what the policy made of what was asked for
	asked       op.Priority // what was asked for, where that is another
	parent      key
	request     key    // equal for operations that ask for the same change
	rivalry     key    // equal for those of one submitter, type and target; zero without a submitter
	retryOf     uint32 // short
	preemptible bool
	foreign     bool   // of somebody whose operations are not demanded to end
	expected    *int64 // version of the entity
	accepted    time.Time
	expires     time.Time // never where zero

	origin *origin // with Options.Events

	status  op.Status
	slot    int // index in target.staged; -1 outside
	waiting bool
	due     time.Time // end of the backoff
	lapsed  bool      // an attempt lapsed, and what follows from it has not been told
	turned  op.Reason // why it must not be staged
	failure *op.Failure
	winner  string
	reason  op.Reason // of an open operation: coalesced, preempted

	attempt   int
	lapses    int
	unclaimed int         // lapses of attempts that nobody had begun
	effective op.Priority // by which the current attempt was granted
	granted   time.Time
	lease     time.Time
	claimed   bool // a heartbeat came for the current attempt
	stop      *stop
	told      struct{ grace, execution bool } // protections of the current attempt

	leader *operation   // the one that it was coalesced into
	riders []*operation // those that were coalesced into it
	dooms  []doom

	missing int // index in partition.missing, where the rank has an unknown ancestor
}

// origin is what the events of an operation tell of its submission and nothing else
// needs.
type origin struct{ traceparent, causedBy, retryOf string }

// followUp reports whether o is the other side of a structural operation. Its
// first side is done, so it may not be lost.
func (o *operation) followUp() bool { return o.kind == op.TypeFollowUp }

// over reports whether the deadline or the maximum age of o has passed.
func (o *operation) over(at time.Time) bool { return !o.expires.IsZero() && !o.expires.After(at) }

// back reports whether the backoff of o has ended and nothing has said so yet.
func (o *operation) back(at time.Time) bool { return o.waiting && !o.due.After(at) }

// adrift reports whether a pending operation is nowhere.
func (o *operation) adrift() bool {
	return o.status == op.Pending && o.slot < 0 && !o.waiting && o.leader == nil && len(o.dooms) == 0
}

// stop is a cancel that waits for the end of grace.
type stop struct {
	at    time.Time
	alone bool // spares the descendants
}

// past is what is kept of an operation that ended: enough to recognise anything
// that follows, to inherit from it and to compare its record.
type past struct {
	parent      key
	winner      uint64 // long
	seq         uint64 // of the intake
	ended       uint32 // seconds since 1970
	heard       uint32 // how many were heard of before it
	last        uint32 // how many were when it was heard of last
	retryAfter  uint32 // milliseconds
	retryOf     uint32 // short
	failure     uint32 // short
	retries     uint16
	attempts    uint16
	preemptions uint16
	priority    uint8
	asked       uint8
	status      uint8 // index in op.Statuses
	reason      uint8 // 1 + index in op.Reasons; 0 is none
	cascade     bool  // its cancellation took its descendants along
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
	open      int          // operations without a terminal record
	stamp     uint64       // of its last use, with Bounds
	executing *operation
	opened    time.Time // when the staging area ceased to be empty
	closes    time.Time // when it may be decided
	unsure    bool      // opened and closes depend on an order that was not recorded
	doubtful  bool      // in this step, the staging area may have been empty for a moment or not
	touched   bool
	stirred   bool // in this step, something happened after which the executing operation is contested
	before    int  // staged operations when the step first touched the target

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

// enlist adds o to the list under a key, and delist takes it off again.
func enlist(in map[key][]*operation, k key, o *operation) { in[k] = append(in[k], o) }

func delist(in map[key][]*operation, k key, o *operation) {
	list := in[k]
	i := slices.Index(list, o)
	switch last := len(list) - 1; {
	case i < 0:
	case last == 0:
		delete(in, k)
	default:
		list[i], list[last] = list[last], nil
		in[k] = list[:last]
	}
}
