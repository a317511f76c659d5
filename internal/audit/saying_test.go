package audit

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// leaves calls f with each value in v that can be changed, and with its path. Lists
// and pointers are given one element where they have none.
func leaves(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		f(path, v)
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		leaves(v.Elem(), path, f)
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		leaves(v.Index(0), path, f)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	default:
		f(path, v)
	}
}

// change gives a value another one.
func change(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(1)))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 0.5)
	default:
		panic("no idea how to change a " + v.Type().String())
	}
}

// filled is an event that says something in every field.
func filled(set func(e *op.Event)) *op.Event {
	e := &op.Event{}
	leaves(reflect.ValueOf(e).Elem(), "", func(_ string, v reflect.Value) { change(v) })
	set(e)
	return e
}

// Whatever field of an event says something else, the event says something else, but
// for what no step settles.
func TestAnEventIsComparedFieldByField(t *testing.T) {
	anyReason := func(op.Reason) bool { return true }
	leftOut := []struct {
		why    string
		field  string
		events []op.EventName
		reason func(op.Reason) bool
	}{
		{
			"it is the one after the step, by what waiting was worth at some earlier instant", ".Effective",
			[]op.EventName{op.EventSubmitted, op.EventFailed, op.EventRetry, op.EventRejected, op.EventPreempted, op.EventCancelled},
			anyReason,
		},
		{"the same, of who shares an outcome", ".Effective", []op.EventName{op.EventCompleted}, func(r op.Reason) bool { return r == op.Coalesced }},
		{"it is that of another operation", ".Version", op.EventNames(), func(r op.Reason) bool { return r == op.Coalesced }},
		{"it is that of another operation", ".Revision", op.EventNames(), func(r op.Reason) bool { return r == op.Coalesced }},
	}
	for _, name := range op.EventNames() {
		for _, reason := range []op.Reason{op.Preempted, op.Coalesced} {
			set := func(e *op.Event) { e.Name, e.Reason = name, reason }
			says, n := saying(filled(set), "e1"), 0
			leaves(reflect.ValueOf(filled(set)).Elem(), "", func(path string, _ reflect.Value) {
				if path == ".Reason" || path == ".Name" {
					return // they say which other fields count
				}
				n++
				e := filled(set)
				leaves(reflect.ValueOf(e).Elem(), "", func(p string, v reflect.Value) {
					if p == path {
						change(v)
					}
				})
				same := false
				for _, l := range leftOut {
					same = same || l.field == path && slices.Contains(l.events, name) && l.reason(reason)
				}
				if got := saying(e, "e1") == says; got != same {
					t.Errorf("%s for %q: with another %s it says the same: %t", name, reason, path, got)
				}
			})
			if n < 40 {
				t.Fatalf("%d fields", n)
			}
		}
	}
}

// What is not there, a list that is longer, and the last token of the subject.
func TestAnEventIsComparedAsAWhole(t *testing.T) {
	none := func(*op.Event) {}
	seen := map[uint64]string{}
	for i, c := range []struct {
		token string
		set   func(e *op.Event)
	}{
		{"e1", none},
		{"e2", none},
		{"e1", func(e *op.Event) { e.Name = op.EventRejected }},
		{"e1", func(e *op.Event) { e.Reason = op.Paused }},
		{"e1", func(e *op.Event) { e.Error = nil }},
		{"e1", func(e *op.Event) { e.Detail = nil }},
		{"e1", func(e *op.Event) { e.RetryCount = nil }},
		{"e1", func(e *op.Event) { *e.RetryCount = 0 }},
		{"e1", func(e *op.Event) { e.MaxRetries = nil }},
		{"e1", func(e *op.Event) { e.ExecutionMS = nil }},
		{"e1", func(e *op.Event) { e.Partition = nil }},
		{"e1", func(e *op.Event) { e.Contenders = nil }},
		{"e1", func(e *op.Event) { e.Contenders = append(e.Contenders, e.Contenders[0]) }},
	} {
		says := saying(filled(c.set), c.token)
		if other, known := seen[says]; known || says == 0 {
			t.Errorf("%d says the same as %s", i, other)
		}
		seen[says] = fmt.Sprint(i)
	}
	utc := filled(none)
	local := filled(func(e *op.Event) { e.At = e.At.In(time.FixedZone("", 3600)) })
	if saying(utc, "e1") != saying(local, "e1") {
		t.Error("the same instant is not the same")
	}
}
