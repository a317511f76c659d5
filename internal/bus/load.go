package bus

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

// LoadType is the value of "type" in a [Load].
const LoadType = "ops.v1.load"

// Load says how full a partition is. Its owner publishes it several times a
// second while the partition, or one of its targets, is more than half full, and
// once more when that is over. It is news and not a record: who hears nothing for
// a second knows nothing.
type Load struct {
	Type      string `json:"type"` // LoadType
	Partition int    `json:"partition"`
	Open      int    `json:"open"`     // operations without a terminal record
	MaxOpen   int    `json:"max_open"` // as many as there may be
	// Targets are those that are more than half full, the fullest 64 at most,
	// with the number of operations staged on each.
	Targets   map[string]int `json:"targets,omitempty"`
	MaxStaged int            `json:"max_staged"` // operations staged on one target at most
	// RetryAfterMS is when it is worth trying again.
	RetryAfterMS int64 `json:"retry_after_ms"`
}

// PublishLoad tells how full a partition is. It does not wait for anybody.
func (b *Bus) PublishLoad(l Load) error {
	l.Type = LoadType
	data, err := json.Marshal(l)
	if err == nil {
		err = b.nc.Publish(LoadSubject(l.Partition), data)
	}
	if err != nil {
		return fmt.Errorf("bus: load: %w", err)
	}
	return nil
}

// WatchLoad has f called, from one goroutine, with the news of every partition
// that are published from now on. stop ends the calls.
func (b *Bus) WatchLoad(f func(Load)) (stop func(), err error) {
	sub, err := b.nc.Subscribe("ops.load.*", func(m *nats.Msg) {
		var l Load
		if json.Unmarshal(m.Data, &l) == nil && l.Type == LoadType && m.Subject == LoadSubject(l.Partition) {
			f(l)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("bus: load: %w", err)
	}
	if err := b.heard(sub); err != nil {
		return nil, fmt.Errorf("bus: load: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
