package stress_test

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/stress"
	"github.com/hierarchy-bus/hierarchy/internal/systest"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
)

// TestRun puts two seconds of the demo's workload on a whole system and checks
// the report against the auditor, which counts for itself.
func TestRun(t *testing.T) {
	ctx, b := systest.Start(t)
	p := stress.Demo()
	p.Duration = 2 * time.Second
	r, err := stress.Run(ctx, stress.Options{Bus: b, Profile: p, Name: "t", Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Complete() || r.Total.Open != 0 || r.Refused != 0 {
		t.Errorf("unaccounted %d, open %d, refused %d; want none", r.Unaccounted, r.Total.Open, r.Refused)
	}
	if sum := r.Total.Succeeded + r.Total.Rejected + r.Total.Cancelled; sum != r.Submitted {
		t.Errorf("%d submitted, %d ended", r.Submitted, sum)
	}
	if r.Total.Succeeded < p.Targets || r.Total.Rejected == 0 || r.Decisions == 0 || r.Total.Decision.P50 <= 0 {
		t.Errorf("too little happened: %+v", r.Total)
	}
	v, err := verify.Run(ctx, b, verify.Options{Quiescent: true})
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK() {
		t.Errorf("%d violations, the first: %v", v.Total, v.Violations[0])
	}
	if len(v.Lagging) > 0 || v.Records < r.Submitted || v.Heads < p.Targets {
		t.Errorf("checked %d records and %d heads, lagging %v", v.Records, v.Heads, v.Lagging)
	}
	if want := r.Submitted + r.FollowUps; v.Operations < want {
		t.Errorf("the auditor counts %d operations, the report %d and %d follow-ups", v.Operations, r.Submitted, r.FollowUps)
	}
}
