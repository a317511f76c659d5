package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// compare checks every field that the oracle names, and that there are no other
// entities.
func compare(ctx context.Context, url, oracle string) error {
	data, err := os.ReadFile(oracle)
	if err != nil {
		return err
	}
	var want struct {
		Operations int                                   `json:"operations"`
		Entities   map[string]map[string]json.RawMessage `json:"entities"`
	}
	if err := json.Unmarshal(data, &want); err != nil {
		return err
	}
	b, done, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer done()
	fields, seen := 0, 0
	for kv, err := range b.Entities(ctx) {
		if err != nil {
			return err
		}
		var e struct {
			Fields map[string]json.RawMessage `json:"fields"`
		}
		if err := json.Unmarshal(kv.Value, &e); err != nil {
			return err
		}
		expected, ok := want.Entities[kv.Key]
		if !ok {
			return fmt.Errorf("entity %s is not in the oracle", kv.Key)
		}
		seen++
		for name, v := range expected {
			if !bytes.Equal(e.Fields[name], v) {
				return fmt.Errorf("%s.%s is %s, the oracle says %s", kv.Key, name, e.Fields[name], v)
			}
			fields++
		}
	}
	if seen != len(want.Entities) {
		return fmt.Errorf("%d entities, the oracle has %d", seen, len(want.Entities))
	}
	counts, err := statuses(ctx, b)
	if err != nil {
		return err
	}
	if counts[op.Succeeded] != want.Operations || len(counts) != 1 {
		return fmt.Errorf("statuses %v, want %d succeeded and nothing else", counts, want.Operations)
	}
	fmt.Printf("  %d operations succeeded; %d entities and %d fields equal the oracle\n", want.Operations, seen, fields)
	return nil
}

func statuses(ctx context.Context, b *bus.Bus) (map[op.Status]int, error) {
	counts := map[op.Status]int{}
	for kv, err := range b.Records(ctx) {
		if err != nil {
			return nil, err
		}
		var r op.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return nil, err
		}
		counts[r.Status]++
	}
	return counts, nil
}

// losers checks that everything ended, and every loser against the decision that
// its record names.
func losers(ctx context.Context, url string, submitted int) error {
	b, done, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer done()
	counts, err := statuses(ctx, b)
	if err != nil {
		return err
	}
	if counts[op.Succeeded]+counts[op.Rejected] != submitted || len(counts) > 2 {
		return fmt.Errorf("statuses %v do not add up to %d submitted", counts, submitted)
	}
	decisions, err := decisions(ctx, b)
	if err != nil {
		return err
	}
	lost := map[op.Reason]int{}
	for kv, err := range b.Records(ctx) {
		if err != nil {
			return err
		}
		var r op.Record
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return err
		}
		if r.Status != op.Rejected {
			continue
		}
		lost[r.Reason]++
		if r.Reason != op.LowerPriority && r.Reason != op.LaterSubmission {
			continue
		}
		if err := outranked(&r, decisions[r.Decision]); err != nil {
			return err
		}
	}
	fmt.Printf("  %d submitted = %d succeeded + %d rejected; reasons %v; every loser names a winner that ranked above it\n",
		submitted, counts[op.Succeeded], counts[op.Rejected], lost)
	return nil
}

// decisions reads every decision out of the journal.
func decisions(ctx context.Context, b *bus.Bus) (map[string]*op.Decision, error) {
	all := map[string]*op.Decision{}
	for e, err := range b.JournalRead(ctx, -1, 0) {
		if err != nil {
			return nil, err
		}
		var s arbiter.Step
		if err := json.Unmarshal(e.Data, &s); err != nil {
			return nil, err
		}
		for i := range s.Out {
			if d := s.Out[i].Decision; d != nil {
				all[d.ID] = d
			}
		}
	}
	return all, nil
}

func outranked(r *op.Record, d *op.Decision) error {
	if d == nil {
		return fmt.Errorf("%s lost by decision %s, which is not in the journal", r.OpID, r.Decision)
	}
	var winner, loser *op.Contender
	for i := range d.Contenders {
		switch c := &d.Contenders[i]; c.OpID {
		case r.Winner:
			winner = c
		case r.OpID:
			loser = c
		}
	}
	if winner == nil || loser == nil || winner.OpID != d.Winner {
		return fmt.Errorf("%s lost to %s by decision %s, which does not say so", r.OpID, r.Winner, r.Decision)
	}
	if winner.Effective > loser.Effective || winner.Effective == loser.Effective && winner.Before(loser.Place) {
		return nil
	}
	return fmt.Errorf("%s lost to %s, which did not rank above it", r.OpID, r.Winner)
}
