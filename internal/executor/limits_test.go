package executor

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// What a handler says of its failure is cut to what a record can hold.
func TestLongFailureIsCut(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	own := &op.Failure{
		Code: strings.Repeat("c", 65), Message: strings.Repeat("\u00fc", 2048) + "x", Reason: op.Reason(strings.Repeat("r", 1000)), Terminal: true,
	}
	start(t, Config{Bus: b, Handlers: map[string]Handler{
		"greet": func(_ context.Context, k *Task) (*entity.Change, error) {
			if k.Operation.ID == "short" {
				return nil, &op.Failure{Code: own.Code[1:], Message: own.Message[1:4096] + "\xff", Terminal: true}
			}
			return nil, own
		},
	}})
	offer(t, b, custom("long"))
	f := take(t, got).Failure
	if f == nil || !f.Terminal || f.Code != strings.Repeat("c", 61)+"…" || f.Message != strings.Repeat("\u00fc", 2046)+"…" || len(f.Reason) != 64 {
		t.Errorf("%+v", f)
	}
	if len(own.Code) != 65 || len(own.Message) != 4097 {
		t.Error("the handler's own failure was changed")
	}
	offer(t, b, custom("short"))
	if f := take(t, got).Failure; f == nil || f.Code != own.Code[1:] || f.Message != "?"+own.Message[2:4096]+"?" {
		t.Errorf("within the limits: %+v", f)
	}
}

// A change that would not fit into the journal fails its operation; retrying it
// would make it no smaller.
func TestTooLargeAChange(t *testing.T) {
	b := real(t)
	got := owner(t, b, 1, accept)
	// {"kind":"noted","base":7,"from":2,"note":"…"}
	const around = 44
	start(t, Config{Bus: b, Handlers: map[string]Handler{
		"greet": func(_ context.Context, k *Task) (*entity.Change, error) {
			n := 300<<10 - around
			if k.Operation.ID == "large" {
				n++
			}
			return &entity.Change{Kind: entity.Noted, Note: strings.Repeat("n", n)}, nil
		},
	}})
	offer(t, b, custom("fits"))
	if r := take(t, got); r.Failure != nil || len(r.Change) != 300<<10 {
		t.Errorf("%d bytes: %+v", len(r.Change), r.Failure)
	}
	offer(t, b, custom("large"))
	r := take(t, got)
	if f := r.Failure; f == nil || !f.Terminal || f.Code != CodeTooLarge || len(r.Change) > 0 ||
		!strings.Contains(f.Message, "307201") || !strings.Contains(f.Message, "307200") {
		t.Errorf("%d bytes: %+v", len(r.Change), f)
	}
}

// The limit leaves room for whatever a built-in type may do: nothing tells more
// others than a parent with all its children.
func TestTheLargestBuiltInChangeIsNotTooLarge(t *testing.T) {
	long := func(i int) string { return fmt.Sprintf("%064d", i) }
	e := &entity.Entity{
		ID: long(0), RootID: strings.Repeat("r", 64), ParentID: strings.Repeat("p", 64), Version: 1 << 63, Revision: math.MaxUint64 - 1,
	}
	for i := range entity.MaxChildren {
		e.Children = append(e.Children, long(i+1))
	}
	c, f := entity.Compute(&op.Operation{ID: strings.Repeat("o", 64), Type: op.TypePromoteToRoot, Target: e.ID}, e, nil)
	if f != nil {
		t.Fatal(f)
	}
	raw, err := op.Marshal(c)
	if err != nil || len(c.Follow) < entity.MaxChildren || len(raw) > MaxChange {
		t.Errorf("%d follow-ups in %d bytes, the limit is %d: %v", len(c.Follow), len(raw), MaxChange, err)
	}
}
