package audit

import "fmt"

// bits are the intake sequences of one partition that something is true of, from
// a first one on. Each costs a bit.
type bits struct {
	from  uint64
	words []uint64
}

func (b *bits) set(seq uint64) {
	if b.from == 0 || seq < b.from {
		return
	}
	for i := (seq - b.from) / 64; uint64(len(b.words)) <= i; {
		b.words = append(b.words, 0)
	}
	b.words[(seq-b.from)/64] |= 1 << ((seq - b.from) % 64)
}

func (b *bits) has(seq uint64) bool {
	return b.from > 0 && seq >= b.from && (seq-b.from)/64 < uint64(len(b.words)) && b.words[(seq-b.from)/64]&(1<<((seq-b.from)%64)) != 0
}

// CheckIntake takes a message that the intake still holds for a partition. Call it
// after the last step, with [Options.IntakeFrom], in the order of the intake.
func (a *Auditor) CheckIntake(partition int, seq uint64) {
	p := a.partition(partition)
	p.stored.from = a.opts.IntakeFrom
	p.stored.set(seq)
	if seq <= p.cursor && seq >= a.opts.IntakeFrom && !p.taken.has(seq) {
		a.violate(Violation{
			Invariant: LogSkipped, Partition: partition, Step: p.step,
			Text: fmt.Sprintf("the cursor stands at %d, and no step has consumed the message %d of the intake", p.cursor, seq),
		})
	}
}

// CheckInvented reports what the steps of a partition have consumed from the given
// intake sequence on without [Auditor.CheckIntake] having seen it. The caller
// knows that nothing from there on was trimmed before it was read.
func (a *Auditor) CheckInvented(partition int, from uint64) {
	p := a.partitions[partition]
	if p == nil {
		return
	}
	for seq := max(from, p.taken.from); seq > 0 && seq < p.taken.from+uint64(64*len(p.taken.words)); seq++ {
		if p.taken.has(seq) && !p.stored.has(seq) {
			a.violate(Violation{
				Invariant: LogInvented, Partition: partition, Step: p.step,
				Text: fmt.Sprintf("a step has consumed the message %d, which the intake does not hold for this partition", seq),
			})
		}
	}
}
