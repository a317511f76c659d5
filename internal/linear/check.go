package linear

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Result is what a check found. Only a history that is OK and has enough in it
// shows anything.
type Result struct {
	Calls    int // submissions and reads, those without an answer included
	Reads    int // that were answered
	Ops      int // operations, each id once
	Repeated int // submissions of an id beyond its first
	Open     int // operations of which nobody was ever told the outcome
	Verdicts map[Verdict]int
	Entities int

	Disagreements []Disagreement // ids with two outcomes
	Illegal       []string       // entities whose calls no register could have answered so
	Undecided     []string       // entities for which the search took too long
	Artefacts     string         // directory with a picture and the calls of each of them; "": there are none
}

// OK reports whether nothing is wrong. A search that was given up counts as wrong.
func (r *Result) OK() bool {
	return len(r.Disagreements) == 0 && len(r.Illegal) == 0 && len(r.Undecided) == 0
}

// String is one line.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls: %d reads and %d operations on %d entities", r.Calls, r.Reads, r.Ops, r.Entities)
	for _, v := range slices.Sorted(maps.Keys(r.Verdicts)) {
		fmt.Fprintf(&b, ", %d %s", r.Verdicts[v], v)
	}
	fmt.Fprintf(&b, "; %d submitted again, %d open; %d entities not linearizable, %d undecided, %d ids with two outcomes",
		r.Repeated, r.Open, len(r.Illegal), len(r.Undecided), len(r.Disagreements))
	if r.Artefacts != "" {
		b.WriteString("; see " + r.Artefacts)
	}
	return b.String()
}

// Check looks for an order in which one register would have answered as the
// clients were answered, for each entity by itself. patience bounds the search for
// one entity. What is wrong is left as an HTML page and as NDJSON for each entity,
// with the whole history beside, in a new directory below dir ("": that of the
// system for temporary files). An error means that it could not be written.
func Check(h History, patience time.Duration, dir string) (*Result, error) {
	merged, bad := h.Merge()
	parts := merged.byEntity()
	r := &Result{Calls: len(h), Entities: len(parts), Verdicts: map[Verdict]int{}, Disagreements: bad}
	writes := 0
	for i := range h {
		if h[i].Kind != Read {
			writes++
		}
	}
	for i := range merged {
		if c := &merged[i]; c.Kind == Read {
			r.Reads++
		} else {
			r.Ops++
			r.Verdicts[c.Verdict]++
		}
	}
	r.Repeated, r.Open = writes-r.Ops, r.Verdicts[Unknown]
	pictures := map[string]porcupine.LinearizationInfo{}
	m := model()
	for _, entity := range slices.Sorted(maps.Keys(parts)) {
		verdict, info := porcupine.CheckOperationsVerbose(m, parts[entity].operations(), patience)
		switch verdict {
		case porcupine.Ok:
			continue
		case porcupine.Illegal:
			r.Illegal = append(r.Illegal, entity)
		case porcupine.Unknown:
			r.Undecided = append(r.Undecided, entity)
		}
		pictures[entity] = info
	}
	if r.OK() {
		return r, nil
	}
	return r, r.keep(h, dir, parts, pictures)
}

// keep writes what is needed to understand a failure.
func (r *Result) keep(h History, dir string, parts map[string]History, pictures map[string]porcupine.LinearizationInfo) error {
	dir, err := os.MkdirTemp(dir, "not-linearizable-")
	if err != nil {
		return fmt.Errorf("linear: %w", err)
	}
	r.Artefacts = dir
	errs := []error{write(filepath.Join(dir, "history.ndjson"), h)}
	for entity, info := range pictures {
		errs = append(errs,
			write(filepath.Join(dir, entity+".ndjson"), parts[entity]),
			porcupine.VisualizePath(model(), info, filepath.Join(dir, entity+".html")))
	}
	for _, d := range r.Disagreements {
		errs = append(errs, write(filepath.Join(dir, "id-"+d.OpID+".ndjson"), History{d.A, d.B}))
	}
	return errors.Join(errs...)
}

func write(path string, h History) error {
	var b bytes.Buffer
	if err := h.Write(&b); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}
