package seats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	seats "github.com/hierarchy-bus/hierarchy/examples/user-test"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

// train starts a system with the type of the service and a train with free seats.
func train(t *testing.T, free int, opts ...optest.Option) *optest.System {
	t.Helper()
	s := optest.Start(t, append(opts, optest.WithType(seats.BookSchema, seats.Handle))...)
	s.Do(op.Operation{Type: op.TypeCreate, Target: "ic-3", Params: client.Params(map[string]any{"fields": map[string]any{"free": free}})})
	return s
}

func TestBook(t *testing.T) {
	t.Parallel()
	s := train(t, 1)
	office := &seats.Office{Client: s.Client()}
	for range 2 { // a second time changes nothing
		if seat, err := office.Book(t.Context(), "ic-3", "ada", false); err != nil || seat != 1 {
			t.Errorf("seat %d, %v", seat, err)
		}
	}
	if _, err := office.Book(t.Context(), "ic-3", "bob", true); !errors.Is(err, seats.ErrSoldOut) {
		t.Errorf("a seat that there is not: %v", err)
	}
	if got := s.Entity("@ic-3.free"); got != "0" {
		t.Errorf("%s seats are free", got)
	}
	s.Verify(t)
}

// Whoever asks, in whatever order: a seat is sold once. In the middle of it the
// worker that sells them and the resolver die.
func TestBookUnderFaults(t *testing.T) {
	t.Parallel()
	const passengers, places = 20, 12
	s := train(t, places, optest.WithResolvers(2), optest.WithAttemptTimeout(500*time.Millisecond))
	office := &seats.Office{Client: s.Client()}
	var mu sync.Mutex
	sold := map[int]string{}
	var wg sync.WaitGroup
	for i := range passengers {
		wg.Go(func() {
			name := fmt.Sprint("passenger-", i)
			seat, err := office.Book(t.Context(), "ic-3", name, i%2 == 0)
			mu.Lock()
			defer mu.Unlock()
			if other, twice := sold[seat]; twice && err == nil {
				t.Errorf("%s and %s have seat %d", name, other, seat)
			}
			if err == nil {
				sold[seat] = name
			} else if !errors.Is(err, seats.ErrSoldOut) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	s.WaitEvent(func(e op.Event) bool { return e.OpType == "book_seat" && e.Name == op.EventCompleted })
	for _, role := range []string{"worker-1", "resolver-1"} {
		if err := s.Kill(role); err != nil {
			t.Error(err)
		}
		if err := s.Restart(t.Context(), role); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if len(sold) != places {
		t.Errorf("%d of %d seats are sold", len(sold), places)
	}
	s.Verify(t)
}

// Two bookings that are decided together: the frequent traveller is first.
func TestFrequentTravellersComeFirst(t *testing.T) {
	t.Parallel()
	s := train(t, 2)
	book := func(name string, p op.Priority) op.Operation {
		return op.Operation{
			Type: "book_seat", Target: "ic-3", Priority: p, OnConflict: op.OnConflictQueue, Params: client.Params(seats.Book{Passenger: name}),
		}
	}
	for _, id := range s.MustSubmitBatch(book("ada", op.Normal), book("bob", op.High)) {
		s.Await(id)
	}
	var taken map[string]int
	if s.Decode("@ic-3.seats", &taken); taken["bob"] != 1 || taken["ada"] != 2 {
		t.Errorf("seats %v", taken)
	}
}

// A booking that nobody has decided within its deadline is not sold later, when
// nobody wants it any more. In a bubble the hour takes no time.
func TestBookingsExpire(t *testing.T) {
	optest.Bubble(t, func(t *testing.T, s *optest.System) {
		s.Do(op.Operation{Type: op.TypeCreate, Target: "ic-3", Params: json.RawMessage(`{"fields":{"free":1}}`)})
		if err := s.ChangePolicy(context.Background(), `{"window_by_type":{"book_seat":"2h"}}`); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r := s.Do(op.Operation{
			Type: "book_seat", Target: "ic-3", Deadline: &op.Deadline{After: time.Hour}, Params: client.Params(seats.Book{Passenger: "ada"}),
		})
		if r.Status != op.Rejected || r.Reason != op.Expired {
			t.Errorf("%s %s", r.Status, r.Reason)
		}
		if d := time.Since(began).Round(time.Minute); d != time.Hour {
			t.Errorf("it expired after %s", d)
		}
	}, optest.WithType(seats.BookSchema, seats.Handle))
}
