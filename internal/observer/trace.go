package observer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TraceType is the value of "type" in a [Trace].
const TraceType = "ops.v1.trace"

// Bounds of a trace. The feed itself is the buffer: it is durable, and every
// observer has the same.
const (
	traceDefault = 100
	traceBytes   = 768 << 10 // of one answer over NATS, which takes 1 MiB
)

// Trace is the last public events, the oldest first.
type Trace struct {
	Type   string            `json:"type"`   // TraceType
	From   uint64            `json:"from"`   // place of the first one in the feed, 0: none
	To     uint64            `json:"to"`     // and of the last one
	Cut    bool              `json:"cut"`    // the oldest ones were left out, to fit into one answer
	Events []json.RawMessage `json:"events"` // as they were told, see [op.Event]
}

// ReadTrace reads the last events of the feed.
func ReadTrace(ctx context.Context, b *bus.Bus, last int) (*Trace, error) {
	s, err := b.JetStream().Stream(ctx, bus.StreamEvents)
	if err != nil {
		return nil, fmt.Errorf("observer: events: %w", err)
	}
	state := s.CachedInfo().State
	t := &Trace{Type: TraceType, Events: []json.RawMessage{}}
	if last <= 0 || state.Msgs == 0 {
		return t, nil
	}
	from := max(state.FirstSeq, state.LastSeq-min(state.LastSeq, uint64(last))+1)
	for e, err := range b.Events(ctx, bus.EventQuery{FromSeq: from}) {
		if err != nil {
			return nil, fmt.Errorf("observer: events: %w", err)
		}
		if t.From == 0 {
			t.From = e.Seq
		}
		t.To = e.Seq
		t.Events = append(t.Events, e.Data)
		if e.Seq >= state.LastSeq {
			break
		}
	}
	return t, ctx.Err()
}

// shorten leaves out the oldest events until the rest has at most so many bytes.
func (t *Trace) shorten(most int) {
	kept, size := len(t.Events), 0
	for kept > 0 && size+len(t.Events[kept-1])+1 <= most {
		kept--
		size += len(t.Events[kept]) + 1
	}
	t.Cut = kept > 0
	t.From += uint64(kept)
	t.Events = t.Events[kept:]
}

// traceLast reads how many events somebody wants, at most most; "" is a hundred.
func traceLast(text string, most int) (int, error) {
	if text = strings.TrimSpace(text); text == "" {
		return min(traceDefault, most), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, op.Errorf(op.CodeBadValue, "last", "%.40q is not a number of events from 1 to %d (event_bus_buffer_size)", text, most)
	}
	return n, nil
}

// TraceHandler serves the last events as JSON; ?last=500 says how many.
func (o *Observer) TraceHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := traceLast(r.URL.Query().Get("last"), o.roles().EventBuffer)
		if err != nil {
			o.json(w, http.StatusBadRequest, op.AsError(err))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
		defer cancel()
		t, err := ReadTrace(ctx, o.cfg.Bus, n)
		if err != nil {
			o.json(w, http.StatusServiceUnavailable, asError(err))
			return
		}
		o.json(w, http.StatusOK, t)
	})
}
