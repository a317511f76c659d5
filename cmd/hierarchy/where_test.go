package main

import (
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/daemon"
)

func TestWhere(t *testing.T) {
	event := []byte(`{"event":"operation.rejected","op_id":"a","priority":8,"attempt":2,"error":{"code":"disk","terminal":true}}`)
	for _, c := range []struct {
		text string
		want bool
	}{
		{"op_id=a", true},
		{"op_id!=a", false},
		{"op_id=b", false},
		{"priority=high", true},
		{"priority=8", true},
		{"priority!=LOW", true},
		{"attempt=2", true},
		{"attempt=02", false},
		{"error.code=disk", true},
		{"error.terminal=true", true},
		{"error.code.deeper=disk", false},
		{"winner=", true},
		{"winner!=", false},
		{"submitter!=nightly", true},
		{"op_id=a=b", false},
	} {
		w, err := parseWhere([]string{c.text})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if w.match(event) != c.want {
			t.Errorf("%s: not %v", c.text, c.want)
		}
	}
	both, err := parseWhere([]string{"op_id=a", "attempt!=2"})
	if err != nil || both.match(event) {
		t.Errorf("one of two conditions was enough: %v", err)
	}
	if both.match([]byte("nonsense")) || !where(nil).match([]byte("nonsense")) {
		t.Error("what cannot be read matches a condition, or not even none")
	}
	for _, bad := range []string{"op_id", "=a", "!=a", "no_such_field=1", "priority=urgent"} {
		if _, err := parseWhere([]string{bad}); daemon.ExitCode(err) != daemon.ExitUsage {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestSince: a number is a place in the journal, everything else a time.
func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for since, want := range map[string]watchOptions{"1042": {fromSeq: 1042}, "10m": {}, "": {}} {
		o := watchOptions{since: since}
		q, err := o.query(now)
		if err != nil || o.fromSeq != want.fromSeq || q.New != (since == "") || (since == "10m") != q.Since.Equal(now.Add(-10*time.Minute)) {
			t.Errorf("%q: from %d, %+v, %v", since, o.fromSeq, q, err)
		}
	}
}
