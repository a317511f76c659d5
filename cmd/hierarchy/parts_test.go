package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/audit"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/stress"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestVerdict: the exit code of a demo depends on everything that can be wrong.
func TestVerdict(t *testing.T) {
	good := func() loadReport {
		return loadReport{&stress.Report{Submitted: 100, Total: stress.Row{Submitted: 100, Succeeded: 20}}, &verify.Result{}}
	}
	if err := good().verdict(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*loadReport){
		"a violation":         func(r *loadReport) { r.Verify.Total = 1 },
		"one without an end":  func(r *loadReport) { r.Unaccounted = 1 },
		"an open operation":   func(r *loadReport) { r.Total.Open = 1 },
		"an unreadable step":  func(r *loadReport) { r.Unreadable = 1 },
		"a view that lags":    func(r *loadReport) { r.Verify.Lagging = []int{3} },
		"too little happened": func(r *loadReport) { r.Total.Succeeded = 4 },
	} {
		r := good()
		spoil(&r)
		if err := r.verdict(); daemon.ExitCode(err) != daemon.ExitOther {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExit(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context //nolint:containedctx // a table
		err  error
		want int
		text string
	}{
		{t.Context(), nil, 0, ""},
		{t.Context(), silently(4), 4, ""},
		{t.Context(), usagef("wrong"), 2, "hierarchy: wrong\n"},
		{t.Context(), op.Errorf(op.CodeBadID, "", "bad"), 2, "hint: Dots"},
		{t.Context(), nats.ErrAuthorization, 9, "--creds"},
		{t.Context(), nats.ErrNoServers, 8, "hierarchy dev"},
		{t.Context(), context.DeadlineExceeded, 7, "deadline"},
		{t.Context(), errors.New("any"), 1, "hierarchy: any\n"},
		{done, context.Canceled, 130, "interrupted"},
		{done, nil, 0, ""},
	} {
		var errs bytes.Buffer
		if got := (&app{errs: &errs}).exit(c.ctx, c.err); got != c.want || !strings.Contains(errs.String(), c.text) || c.text == "" && errs.Len() > 0 {
			t.Errorf("%v: exit code %d, want %d; %q", c.err, got, c.want, errs.String())
		}
	}
}

// TestSchemas compares the schemas with the types that they describe.
func TestSchemas(t *testing.T) {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(operationSchema, &s); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for f := range reflect.TypeFor[op.Operation]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	slices.Sort(fields)
	if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, fields) {
		t.Errorf("the schema has %v, an operation has %v", got, fields)
	}
	params, err := paramsOf()
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(params)); !slices.Equal(got, typeNames()) {
		t.Errorf("schemas for %v, types are %v", got, typeNames())
	}
	// A param of the schema is known to the type, and an unknown one is not.
	for name, raw := range params {
		var p struct {
			Properties map[string]json.RawMessage `json:"properties"`
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		for _, field := range append(slices.Sorted(maps.Keys(p.Properties)), "no_such_param") {
			o := op.Operation{Type: name, Target: "x", Params: json.RawMessage(`{"` + field + `":null}`)}
			err := entity.CheckParams(&o)
			if unknown := err != nil && strings.Contains(err.Message, "has no param"); unknown != (field == "no_such_param") {
				t.Errorf("%s.%s: %v", name, field, err)
			}
		}
	}
}

func TestOverlay(t *testing.T) {
	long := `{"a":"` + strings.Repeat("x", overlaySize) + `"}`
	in := "{\"a\":1,\"on_conflict\":\"reject\"}\n\nnonsense\n[1]\n" + long + "\n{\"b\":2}"
	fields := map[string]json.RawMessage{"on_conflict": json.RawMessage(`"queue"`)}
	want := "{\"a\":1,\"on_conflict\":\"queue\"}\n\nnonsense\n[1]\n" + long + "\n{\"b\":2,\"on_conflict\":\"queue\"}\n"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "in bytes": iotest.OneByteReader(strings.NewReader(in))} {
		got, err := io.ReadAll(newOverlay(r, fields))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v, %d bytes instead of %d: %.80s", name, err, len(got), len(want), got)
		}
	}
	// What is in memory is handed on together, so that it can be packed together.
	p := make([]byte, 4096)
	n, err := newOverlay(strings.NewReader("{\"a\":1}\n{\"a\":2}\n"), fields).Read(p)
	if err != nil || bytes.Count(p[:n], []byte("\n")) != 2 {
		t.Errorf("one read gave %q, %v", p[:n], err)
	}
}

func TestPlainTable(t *testing.T) {
	g := grid{header: []string{"A", "LONGER", "C"}}
	g.add("x", "", "z")
	g.add("wide cell", "y", "a\tb")
	var out bytes.Buffer
	g.write(&out)
	want := "A          LONGER  C\nx          -       z\nwide cell  y       a b\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.show(0.1, "too early")
	p.told = time.Now().Add(-lineEvery)
	p.show(0.5, "halfway")
	p.show(0.6, "too early")
	p.end()
	if out.String() != " 50 %  halfway\n" {
		t.Errorf("%q", out.String())
	}
	live := &progress{w: &out, live: true}
	out.Reset()
	live.show(2, "over the end") // a bar is never longer than itself
	live.end()
	if n := strings.Count(out.String(), "█"); n != barWidth || strings.Contains(out.String(), "░") {
		t.Errorf("%q", out.String())
	}
}

func TestInstant(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	if at, err := instant("10m", now); err != nil || !at.Equal(now.Add(-10*time.Minute)) {
		t.Errorf("%s %v", at, err)
	}
	if at, err := instant("2026-11-20T00:00:00Z", now); err != nil || at.Day() != 20 {
		t.Errorf("%s %v", at, err)
	}
	for _, bad := range []string{"yesterday", "-5m", ""} {
		if _, err := instant(bad, now); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestGroups: every invariant belongs to a family that the summary names.
func TestGroups(t *testing.T) {
	for _, inv := range audit.Invariants() {
		if groupTexts[groupOf(inv)] == "" {
			t.Errorf("%s belongs to no family", inv.Name)
		}
	}
}

// TestCompared: copies were compared where one stream has two.
func TestCompared(t *testing.T) {
	one, two := verify.StreamCopies{Copies: make([]verify.Copy, 1)}, verify.StreamCopies{Copies: make([]verify.Copy, 2)}
	for _, c := range []struct {
		streams []verify.StreamCopies
		want    bool
	}{
		{nil, false},
		{[]verify.StreamCopies{one, one}, false},
		{[]verify.StreamCopies{one, two}, true},
	} {
		if got := compared(&verify.Replicas{Streams: c.streams}); got != c.want {
			t.Errorf("%d streams: %v", len(c.streams), got)
		}
	}
}
