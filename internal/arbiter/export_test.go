package arbiter

import "fmt"

// Leftovers says what a machine still holds besides its memory of what has ended;
// it is empty when nothing is open.
func (m *Machine) Leftovers() string {
	if len(m.ops)+len(m.targets)+len(m.timers)+len(m.waiters)+len(m.heirs)+len(m.rivals)+len(m.ready)+len(m.chores)+m.running == 0 {
		return ""
	}
	return fmt.Sprintf("%d operations, %d targets, %d timers, %d awaited ancestors, %d families, %d rivalries, %d ready, %d chores, %d running",
		len(m.ops), len(m.targets), len(m.timers), len(m.waiters), len(m.heirs), len(m.rivals), len(m.ready), len(m.chores), m.running)
}
