package op_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestTheLifeOfAnOperation(t *testing.T) {
	// The picture of contract §5, arrow by arrow, and the one of ADR 0008.
	arrows := map[string]bool{
		"PENDING EXECUTING": true, "PENDING REJECTED": true, "PENDING CANCELLED": true, "PENDING SUCCEEDED": true,
		"EXECUTING SUCCEEDED": true, "EXECUTING FAILED": true, "EXECUTING PENDING": true, "EXECUTING CANCELLED": true,
		"FAILED PENDING": true, "FAILED REJECTED": true,
	}
	for _, from := range op.Statuses() {
		ends := true
		for _, to := range op.Statuses() {
			arrow := arrows[fmt.Sprintf("%s %s", from, to)]
			ends = ends && !arrow
			if from.CanBecome(to) != arrow {
				t.Errorf("%s to %s: %v", from, to, !arrow)
			}
			got, err := from.To(to)
			if (err == nil) != arrow || arrow && got != to || !arrow && got != from {
				t.Errorf("%s to %s gave %s, %v", from, to, got, err)
			}
		}
		if from.Terminal() != ends || !from.Valid() {
			t.Errorf("%s: terminal %v, valid %v", from, from.Terminal(), from.Valid())
		}
	}
	if op.Status("").Valid() || op.Status("").Terminal() {
		t.Error("nothing is a status")
	}
}

func TestPriorities(t *testing.T) {
	for text, want := range map[string]op.Priority{"background": 1, "Low": 2, "NORMAL": 5, "high": 8, "cRiTiCaL": 10, "1": 1, "7": 7, "10": 10} {
		if p, err := op.ParsePriority(text); err != nil || p != want {
			t.Errorf("%s is %d (%v), want %d", text, p, err, want)
		}
	}
	for _, text := range []string{"", "0", "11", "-1", "5.0", "urgent"} {
		if _, err := op.ParsePriority(text); op.AsError(err) == nil || op.AsError(err).Code != op.CodeBadPriority {
			t.Errorf("%q: %v", text, err)
		}
	}
	for p := op.Background; p <= op.Critical; p++ {
		if back, err := op.ParsePriority(p.String()); err != nil || back != p {
			t.Errorf("%s came back as %d (%v)", p, back, err)
		}
	}
	var p op.Priority
	if err := json.Unmarshal([]byte(`"high"`), &p); err != nil || p != op.High {
		t.Errorf("\"high\" is %d (%v)", p, err)
	}
	if err := json.Unmarshal([]byte(`null`), &p); err == nil {
		t.Error("null is a priority")
	}
}

func TestReasonsAreAClosedListWithStableCodes(t *testing.T) {
	reasons := op.Reasons()
	if len(reasons) != 16 {
		t.Errorf("%d reasons, contract §5 and ADR 0008 have 16", len(reasons))
	}
	for i, r := range reasons {
		if want := fmt.Sprintf("OPS-2%03d", i+1); r.Code != want || r.Reason.Code() != want || len(r.Text) < 40 {
			t.Errorf("%s has the code %s, want %s: %s", r.Reason, r.Code, want, r.Text)
		}
	}
	if op.Reason("bad luck").Code() != "" {
		t.Error("a reason outside the list has a code")
	}
}

func TestErrorsAreACatalogue(t *testing.T) {
	for i, e := range op.Errors() {
		if want := fmt.Sprintf("OPS-1%03d", i+1); e.Code != want || e.Text == "" || e.Hint == "" {
			t.Errorf("entry %d is %+v, want the code %s", i, e, want)
		}
	}
	err := fmt.Errorf("submit: %w", op.Errorf(op.CodeBadID, "op_id", "%s is bad", "x"))
	if e := op.AsError(err); e == nil || e.Error() != "OPS-1004: x is bad" || e.Hint == "" {
		t.Errorf("got %v", op.AsError(err))
	}
	if op.AsError(errors.New("other")) != nil || op.AsError(nil) != nil {
		t.Error("something else is an error of a request")
	}
}

func TestEventNamesAreSubjects(t *testing.T) {
	seen := map[op.EventName]bool{}
	for _, n := range op.EventNames() {
		left, right, _ := strings.Cut(string(n), ".")
		if !op.Token(left) || !op.Token(right) || seen[n] {
			t.Errorf("%s cannot be two tokens of a subject, or stands twice", n)
		}
		seen[n] = true
	}
	if len(seen) != 22 {
		t.Errorf("%d events, contract §6 has 21, and an observer tells of violations", len(seen))
	}
}

func TestBuiltinTypes(t *testing.T) {
	types := op.BuiltinTypes()
	for name, info := range types {
		structural := name == op.TypePromoteToRoot || name == op.TypeDetach || name == op.TypeAttach || name == op.TypeFollowUp
		if info.Name != name || !op.Token(name) || info.Structural != structural || info.Internal != (name == op.TypeFollowUp) {
			t.Errorf("%s: %+v", name, info)
		}
		if structural != (info.Priority == op.Critical) {
			t.Errorf("%s has the priority %s", name, info.Priority)
		}
	}
	if len(types) != 10 {
		t.Errorf("%d types, contract §4 has 9 and the follow-up", len(types))
	}
}

func TestPlacesAreInOrder(t *testing.T) {
	places := []op.Place{{Seq: 1}, {Seq: 1, Index: 1}, {Seq: 2}, {Seq: 2, Index: 7}}
	for i, p := range places {
		for j, q := range places {
			if p.Before(q) != (i < j) {
				t.Errorf("%v before %v: %v", p, q, p.Before(q))
			}
		}
	}
}

func TestFailureIsAnError(t *testing.T) {
	var err error = &op.Failure{Message: "no"}
	if err.Error() != "no" {
		t.Errorf("got %v", err)
	}
	if n := (&op.Operation{}).Retries(); n != 0 {
		t.Errorf("an operation without max_retries has %d retries", n)
	}
}

func FuzzToken(f *testing.F) {
	f.Add("a-Z_9")
	f.Fuzz(func(t *testing.T, s string) {
		if op.Token(s) && (len(s) > op.MaxToken || s == "" || strings.ContainsAny(s, ".*> \t\r\n")) {
			t.Fatalf("%q is a token", s)
		}
	})
}
