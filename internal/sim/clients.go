package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// submitter is a client: it publishes what it has in mind, repeats what it got no
// answer to under the same id, cancels now and then and reads what became of it.
// What it has in mind outlives a crash.
type submitter struct {
	*process
	w     *world
	plan  []wish
	at    int // the first wish that is not settled
	tries int
}

// wish is one thing that a client wants.
type wish struct {
	after   time.Duration // its pause before
	subject string
	body    string
	msgID   string
	ids     []string // of the operations in it
	read    string   // an operation to look at instead
}

func (w *world) addClient(name string) *submitter {
	c := &submitter{w: w}
	c.process = &process{k: w.k, name: name, begin: c.begin}
	c.plan = w.wishes(name)
	return c
}

func (c *submitter) begin() {
	c.scope.spawn(func(t *task) {
		for c.at < len(c.plan) {
			v := &c.plan[c.at]
			if c.tries == 0 {
				t.sleep(v.after)
			}
			c.try(t, v)
		}
	})
}

// done reports whether everything is settled, or was given up.
func (c *submitter) done() bool { return c.at == len(c.plan) || c.gone }

// try makes one attempt at a wish.
func (c *submitter) try(t *task, v *wish) {
	log := &client{c.w.cluster}
	c.tries++
	if v.read != "" {
		if data, ok, _ := log.Record(context.Background(), v.read); ok {
			c.w.stats.Reads++
			c.w.check.read(c.w.say(data))
		}
		c.at, c.tries = c.at+1, 0
		return
	}
	ack, err := log.Publish(context.Background(), v.subject, []byte(v.body), v.msgID, nil)
	switch {
	case err == nil:
		c.acknowledged(v, ack)
		// Some send it again although they know better.
		if c.k.chance(80) && c.tries < 4 {
			t.sleep(c.k.between(0, 4*time.Second))
			return
		}
	case errors.Is(err, bus.ErrUnknownOutcome) && c.tries < 12:
		t.sleep(c.k.between(0, 500*time.Millisecond))
		return
	}
	c.at, c.tries = c.at+1, 0
}

func (c *submitter) acknowledged(v *wish, ack bus.Ack) {
	check := c.w.check
	for _, id := range v.ids {
		if _, ok := check.acked[id]; !ok {
			check.acked[id] = ack.Seq
		}
	}
	if len(v.ids) == 0 && strings.HasPrefix(v.subject, "ops.submit.") {
		check.ackedBad[ack.Seq] = true
	}
}

// wishes draws what a client wants.
func (w *world) wishes(name string) []wish {
	k := w.k
	targets := 1 + k.rng.IntN(5)
	burst := k.between(time.Millisecond, 600*time.Millisecond)
	plan := make([]wish, 4+k.rng.IntN(10))
	var ids, on []string // submitted so far, with their targets
	for i := range plan {
		v := &plan[i]
		v.after = k.between(0, 2*burst)
		target := "e" + strconv.Itoa(k.rng.IntN(targets))
		switch n := k.rng.IntN(100); {
		case i < targets && name == "c1": // somebody has to make them
			id := name + "-" + strconv.Itoa(i)
			v.subject, v.ids, v.after = bus.SubmitSubject("e"+strconv.Itoa(i)), []string{id}, v.after/8
			v.body = fmt.Sprintf(`{"op_id":%q,"op_type":"create_entity","params":{"fields":{"a":1,"n":0}},"priority":%d,"on_conflict":"queue"}`, id, 1+k.rng.IntN(10))
			ids, on = append(ids, id), append(on, "e"+strconv.Itoa(i))
		case n < 12 && len(ids) > 0:
			v.read = ids[k.rng.IntN(len(ids))]
		case n < 24 && len(ids) > 0:
			w.wishCancel(v, ids, on)
		case n < 27:
			v.subject, v.body = bus.SubmitSubject(target), `{"op_type":"no such type","op_id":"`+name+`-bad"}`
		case n < 32:
			w.wishMany(v, name, i, targets, &ids, &on)
		default:
			id := name + "-" + strconv.Itoa(i)
			v.subject, v.body, v.ids = bus.SubmitSubject(target), w.operation(id, target, targets, ids), []string{id}
			if k.chance(500) {
				v.msgID = id
			}
			ids, on = append(ids, id), append(on, target)
		}
	}
	return plan
}

func (w *world) wishCancel(v *wish, ids, on []string) {
	i := w.k.rng.IntN(len(ids))
	switch n := w.k.rng.IntN(10); {
	case n < 7:
		v.subject, v.body = bus.CancelSubject(on[i]), fmt.Sprintf(`{"op_id":%q,"cascade":%v}`, ids[i], n < 5)
	case n < 9:
		v.subject, v.body = bus.CancelSubject(on[i]), `{"all":true}`
	default:
		v.subject, v.body = "ops.control."+w.control[w.k.rng.IntN(w.partitions)], `{"submitter":"alice"}`
	}
}

// wishMany is an array on one target, or a bulk of one partition.
func (w *world) wishMany(v *wish, name string, n, targets int, ids, on *[]string) {
	k := w.k
	target := "e" + strconv.Itoa(k.rng.IntN(targets))
	v.subject = bus.SubmitSubject(target)
	bulk := k.chance(400)
	if bulk {
		v.subject = bus.BulkSubject(target)
	}
	var bodies []string
	for i := range 2 + k.rng.IntN(2) {
		to := target
		if other := "e" + strconv.Itoa(k.rng.IntN(targets)); bulk && bus.PartitionOf(other, w.partitions) == bus.PartitionOf(target, w.partitions) {
			to = other
		}
		id := fmt.Sprintf("%s-%d-%d", name, n, i)
		bodies = append(bodies, w.operation(id, to, targets, *ids))
		v.ids = append(v.ids, id)
		*ids, *on = append(*ids, id), append(*on, to)
	}
	v.body = "[" + strings.Join(bodies, ",") + "]"
}

// operation draws one operation.
func (w *world) operation(id, target string, targets int, before []string) string {
	rng := w.k.rng
	other := "e" + strconv.Itoa(rng.IntN(targets))
	var b strings.Builder
	member := func(format string, args ...any) { fmt.Fprintf(&b, ","+format, args...) }
	fmt.Fprintf(&b, `{"op_id":%q,"target_entity_id":%q`, id, target)
	switch n := rng.IntN(100); {
	case n < 12:
		member(`"op_type":"create_entity","params":{"fields":{"a":1,"n":0}}`)
	case n < 30:
		member(`"op_type":"modify_field","params":{"field_name":"a","new_value":%d}`, rng.IntN(3))
	case n < 48:
		member(`"op_type":"complex_update","params":{"increment":{"n":1}}`)
	case n < 58:
		member(`"op_type":"version_entity"`)
	case n < 65:
		member(`"op_type":"borrow_attribute","source_entity_id":%q,"params":{"source_field":"a","target_field":"b"}`, other)
	case n < 78:
		member(`"op_type":"attach_entity","params":{"parent_id":%q},"max_retries":%d`, other, rng.IntN(3))
	case n < 84:
		member(`"op_type":"detach_entity","max_retries":2`)
	case n < 88:
		member(`"op_type":"promote_to_root","max_retries":2`)
	case n < 90:
		member(`"op_type":"delete_entity"`)
	default:
		member(`"op_type":"steady"`)
	}
	w.options(member, before)
	return b.String() + "}"
}

// options draws what may be said beside.
func (w *world) options(member func(string, ...any), before []string) {
	rng := w.k.rng
	if rng.IntN(2) == 0 {
		member(`"priority":%d`, 1+rng.IntN(10))
	}
	if n := rng.IntN(4); n > 0 {
		member(`"on_conflict":%q`, []op.Conflict{op.OnConflictReject, op.OnConflictQueue, op.OnConflictRetry}[n-1])
	}
	if rng.IntN(3) == 0 {
		member(`"preemptible":true`)
	}
	if rng.IntN(12) == 0 {
		member(`"deadline":%q`, []string{"50ms", "1s", "20s"}[rng.IntN(3)])
	}
	if rng.IntN(15) == 0 {
		member(`"expected_version":%d`, rng.IntN(3))
	}
	if rng.IntN(4) == 0 {
		member(`"submitter":"alice"`)
	}
	switch n := rng.IntN(10); {
	case n < 3 && len(before) > 0:
		member(`"parent_op_id":%q`, before[rng.IntN(len(before))])
	case n == 3:
		member(`"parent_op_id":"nobody"`)
	}
}
