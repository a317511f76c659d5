package audit_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// through reads n operations on a few targets, each won by itself.
func through(a *audit.Auditor, n int) {
	const targets = 100
	policy := arbiter.DefaultPolicy()
	policy.StagingWindow = 0
	s := &arbiter.Step{Schema: arbiter.StepSchema, ID: "first", Number: 1, Epoch: 1, Owner: "r1", At: epoch, Takeover: true}
	a.Step(1, s)
	for i := range n {
		id, target, dec := fmt.Sprint("operation-", i), fmt.Sprint("t", i%targets), fmt.Sprint("d", i)
		s.Takeover, s.Number, s.ID, s.At, s.Cursor = false, s.Number+1, fmt.Sprint("a", i), at(i), uint64(i+1)
		o := operation(id, target, 5)
		d := decision(dec, target, i, i, i, op.RuleOnly, contender(o, s.Cursor, op.VerdictWon, ""))
		s.In, s.Out = inputs(arbiter.Input{Policy: &policy}, submit(s.Cursor, o)), []arbiter.Effect{accepted(id), d, granted(id, target, 1, 5, dec, i)}
		a.Step(s.Number, s)
		c := created(target)
		if i >= targets {
			c = &entity.Change{Kind: entity.Modified, Base: uint64(i / targets), From: 1, Set: c.Set}
		}
		s.Number, s.ID = s.Number+1, fmt.Sprint("b", i)
		s.In, s.Out = inputs(success(id, target, 1, c)), []arbiter.Effect{succeeded(id, target, 1, 0)}
		a.Step(s.Number, s)
	}
}

// A million operations have to fit: one that ended may not keep anything of
// itself but its compact entry.
func TestAnEndedOperationCostsLittle(t *testing.T) {
	const n = 40_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	a := audit.New(audit.Options{})
	through(a, n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	r := a.Finish(true)
	wantOnly(t, r)
	if r.Succeeded != n {
		t.Errorf("%d succeeded", r.Succeeded)
	}
	if each := int64(after.HeapAlloc-before.HeapAlloc) / n; each > 400 {
		t.Errorf("an operation that ended costs %d bytes", each)
	} else {
		t.Logf("an operation that ended costs %d bytes", each)
	}
}

func BenchmarkAudit(b *testing.B) {
	b.ReportAllocs()
	a := audit.New(audit.Options{})
	b.ResetTimer()
	through(a, b.N)
	if r := a.Finish(true); !r.OK() {
		b.Fatal(r.ByInvariant)
	}
}
