package bus_test

import (
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

func TestDeadLettersComeAndGo(t *testing.T) {
	_, b := single(t, small())
	e := emitter(t, b)
	e.At(5)
	e.Add(bus.DeadMsg("a", []byte("letter a")))
	e.Add(bus.DeadMsg("b", []byte("letter b")))
	must(t, e.Flush(t.Context()))
	other := emitter(t, b)
	other.At(9)
	other.Add(bus.DeadGoneMsg("a"))
	must(t, other.Flush(t.Context()))
	// The owner of the partition of a has died meanwhile: its letter is told again.
	next := emitter(t, b)
	next.At(5)
	next.Add(bus.DeadMsg("a", []byte("letter a")))
	must(t, next.Flush(t.Context()))
	if _, found, err := b.DeadLetter(t.Context(), "a"); found || err != nil {
		t.Errorf("the letter of an operation that was tried again: %v, %v", found, err)
	}
	if data, found, err := b.DeadLetter(t.Context(), "b"); !found || err != nil || string(data) != "letter b" {
		t.Errorf("%q, %v, %v", data, found, err)
	}
	var keys []string
	for kv, err := range b.DeadLetters(t.Context()) {
		must(t, err)
		keys = append(keys, kv.Key)
	}
	if len(keys) != 1 || keys[0] != "b" {
		t.Errorf("letters of %v", keys)
	}
}
