package optest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// told collects every event of a system in the order of the feed.
type told struct {
	end  context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	all  []op.Event
	seq  uint64        // of the last one, in the feed
	err  error         // why no more will come, once done is closed
	news chan struct{} // closed when there is more
}

// listen begins with the first event that the system ever told, so that nothing
// is missed however late somebody asks.
func listen(b *bus.Bus) *told {
	ctx, cancel := context.WithCancel(context.Background())
	t := &told{end: cancel, done: make(chan struct{}), news: make(chan struct{})}
	go func() {
		defer close(t.done)
		for m, err := range b.Events(ctx, bus.EventQuery{}) {
			if err != nil {
				t.err = err
				return
			}
			t.add(&m)
		}
		t.err = errors.New("the system has been closed")
	}()
	return t
}

func (t *told) add(m *bus.StoredEvent) {
	var e op.Event
	if json.Unmarshal(m.Data, &e) != nil {
		return // written by somebody else, who has the right to in a test
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.seq = append(t.all, e), m.Seq
	close(t.news)
	t.news = make(chan struct{})
}

func (t *told) stop() {
	t.end()
	<-t.done
}

// events returns what was told so far.
func (t *told) events() []op.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

// wait returns the first event from the from-th on that matches, and the index
// behind it. It waits for one until ctx ends.
func (t *told) wait(ctx context.Context, from int, match func(*op.Event) bool) (op.Event, int, error) {
	for {
		t.mu.Lock()
		all, news := t.all, t.news // what is in all is never written to again
		t.mu.Unlock()
		for ; from < len(all); from++ {
			if match(&all[from]) {
				return all[from], from + 1, nil
			}
		}
		select {
		case <-news:
		case <-t.done:
			return op.Event{}, from, t.err
		case <-ctx.Done():
			return op.Event{}, from, context.Cause(ctx)
		}
	}
}

// reach waits until everything up to a place in the feed has arrived.
func (t *told) reach(ctx context.Context, seq uint64) error {
	for {
		t.mu.Lock()
		there, news := t.seq >= seq, t.news
		t.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-news:
		case <-t.done:
			return t.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
