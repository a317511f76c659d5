package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Size of the filter of ids that a partition has accepted. With 4 probes a
// million ids give one needless look-up in a hundred submissions; it only grows
// slower beyond that, never wrong.
const (
	seenBits   = 1 << 23
	seenProbes = 4
)

// seen tells which ids may have been accepted before the machine's memory of
// recent operations begins (Bloom 1970). An id that is not in it was never
// accepted here; one that is, is looked up in OPS_OPERATIONS. Submitting an id
// again is therefore the same submission for as long as its record is kept
// (contract §2).
type seen struct {
	Bits  []byte          `json:"bits,omitempty"`
	First map[string]bool `json:"first,omitempty"` // the ids themselves, until there are bits
}

// seenFirst is how many ids are kept as they are: a partition that sees few
// needs no filter.
const seenFirst = 4096

func (s *seen) add(id string) {
	if s.Bits == nil && len(s.First) < seenFirst {
		if s.First == nil {
			s.First = map[string]bool{}
		}
		s.First[id] = true
		return
	}
	if s.Bits == nil {
		s.Bits = make([]byte, seenBits/8)
		for first := range s.First {
			s.set(first)
		}
		s.First = nil
	}
	s.set(id)
}

func (s *seen) set(id string) {
	for _, b := range probes(id) {
		s.Bits[b/8] |= 1 << (b % 8)
	}
}

// clone copies s for a snapshot.
func (s *seen) clone() *seen {
	return &seen{Bits: slices.Clone(s.Bits), First: maps.Clone(s.First)}
}

func (s *seen) maybe(id string) bool {
	if s.Bits == nil {
		return s.First[id]
	}
	for _, b := range probes(id) {
		if s.Bits[b/8]&(1<<(b%8)) == 0 {
			return false
		}
	}
	return true
}

// probes derives the positions of an id from one hash (Kirsch and Mitzenmacher
// 2006).
func probes(id string) [seenProbes]uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	sum := h.Sum64()
	a, b := sum>>32, sum&0xffffffff|1
	var at [seenProbes]uint64
	for i := range at {
		at[i] = (a + uint64(i)*b) % seenBits
	}
	return at
}

// recognise marks the submissions whose id was accepted so long ago that the
// machine has forgotten it.
func (p *partition) recognise(ctx context.Context, g *gathered) error {
	var ask []int
	for i := range g.in {
		if s := g.in[i].Submit; s != nil && p.seen.maybe(s.Operation.ID) && !p.machine.Remembers(s.Operation.ID) {
			ask = append(ask, i)
		}
	}
	if len(ask) == 0 {
		return nil
	}
	// The record may still be on its way to the view.
	if err := p.emitter.told(ctx, p.number); err != nil {
		return err
	}
	return p.world.each(ctx, len(ask), func(ctx context.Context, i int) error {
		s := g.in[ask[i]].Submit
		data, found, err := p.bus.Record(ctx, s.Operation.ID)
		if err != nil {
			return fmt.Errorf("resolver: read record %s: %w", s.Operation.ID, err)
		}
		var r op.Record
		s.Known = found && json.Unmarshal(data, &r) == nil && r.OpID == s.Operation.ID && r.Partition == p.id
		return nil
	})
}
