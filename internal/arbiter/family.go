package arbiter

import (
	"maps"
	"slices"
)

// family is a set of open operations.
type family map[*entry]struct{}

func (f family) with(e *entry) family {
	if f == nil {
		f = family{}
	}
	f[e] = struct{}{}
	return f
}

// inOrder returns the members in the order of the log.
func (f family) inOrder() []*entry {
	if len(f) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Keys(f), byPlace)
}

// strike takes e out of the family under key and drops an empty one.
func strike(in map[string]family, key string, e *entry) {
	f := in[key]
	delete(f, e)
	if len(f) == 0 {
		delete(in, key)
	}
}

// cuts remembers the ancestors whose cancellation took their pending heirs with
// them, for heirs whose ancestors become known later. It is as long as the
// memory for ended operations.
type cuts struct {
	byID map[string]uint64 // how far the intake was consumed then
	ring []StateCut
	next int
}

// StateCut is one cancelled ancestor.
type StateCut struct {
	OpID string `json:"op_id"`
	Seq  uint64 `json:"seq"`
}

func newCuts() *cuts { return &cuts{byID: map[string]uint64{}} }

func (c *cuts) add(k StateCut) {
	if _, ok := c.byID[k.OpID]; ok {
		return
	}
	c.byID[k.OpID] = k.Seq
	if len(c.ring) < RecentOperations {
		c.ring = append(c.ring, k)
		return
	}
	delete(c.byID, c.ring[c.next].OpID)
	c.ring[c.next] = k
	c.next = (c.next + 1) % RecentOperations
}

// inOrder returns what is remembered, oldest first.
func (c *cuts) inOrder() []StateCut {
	return slices.Concat(c.ring[c.next:], c.ring[:c.next])
}
