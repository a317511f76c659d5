package entity

// After returns the version that the entity has once c is applied. Together with
// Base it tells what a change led to without the entity at hand.
func (c *Change) After() uint64 {
	if c.Version || c.Kind == Created {
		return c.From + 1
	}
	return c.From
}
