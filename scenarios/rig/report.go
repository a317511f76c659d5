package rig

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

var reportFile = flag.String("report", "", "file to which every fault adds a line of JSON")

// Report is what one kind of fault amounted to.
type Report struct {
	Type        string `json:"type"` // ReportType
	Fault       string `json:"fault"`
	Setting     string `json:"setting"` // nodes and sync, and what else matters
	Repetitions int    `json:"repetitions"`
	Balance
	// Back is the longest time from the end of a fault to the next acknowledgement,
	// in nanoseconds.
	Back       time.Duration `json:"back_after"`
	Violations int           `json:"violations"` // of `hierarchy verify --quiescent`
	Broken     []string      `json:"broken,omitempty"`
	Note       string        `json:"note,omitempty"`
	At         time.Time     `json:"at"`
}

// ReportType is the value of "type" in a [Report].
const ReportType = "ops.v1.machine_report"

// Verify runs `hierarchy verify --quiescent` with the book of the clients and books
// what it finds.
func (p *Report) Verify(r *Rig, b *Book) {
	r.T.Helper()
	out, stderr, code := r.Ask("verify", "--quiescent", "--patience", "60s", "--acks", b.file(), "-o", "json")
	var v struct {
		Total       int            `json:"total_violations"`
		ByInvariant map[string]int `json:"by_invariant"`
		Acks        int            `json:"acks_checked"`
		Violations  []struct {
			Text string `json:"text"`
		} `json:"violations"`
	}
	err := json.Unmarshal([]byte(out), &v)
	switch violated := code == exitViolated; {
	case err != nil, code != 0 && !violated, violated != (v.Total > 0):
		r.T.Errorf("hierarchy verify exits %d: %v\n%.2000s%s", code, err, out, stderr)
	case v.Acks == 0:
		r.T.Error("hierarchy verify compared nothing of what clients were told")
	}
	for _, one := range v.Violations[:min(len(v.Violations), 5)] {
		r.T.Log(one.Text)
	}
	p.Violations = v.Total
	for name, n := range v.ByInvariant {
		if n > 0 {
			p.Broken = append(p.Broken, fmt.Sprintf("%s (%d)", name, n))
		}
	}
}

// exitViolated is the exit code of `hierarchy verify` when something is wrong.
const exitViolated = 10

// Tell prints the line for people and the one for machines.
func (p *Report) Tell(r *Rig) {
	r.T.Helper()
	p.Type, p.At = ReportType, time.Now().UTC().Truncate(time.Second)
	line, err := json.Marshal(p)
	if err != nil {
		r.T.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "%s\n%s\n", p, line)
	if *reportFile == "" {
		return
	}
	f, err := os.OpenFile(*reportFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
		err = firstOf(err, f.Close())
	}
	if err != nil {
		r.T.Error(err)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// String is the line for people.
func (p *Report) String() string {
	s := fmt.Sprintf("machine: %s (%s) ×%d: %d acknowledged, %d lost, %d open; %d ambiguous of which %d stored; %d refused; "+
		"longest gap %s, back after %s, quiescent after %s; %d succeeded, %d effects; %d violations",
		p.Fault, p.Setting, p.Repetitions, p.Acked, p.Lost, p.Open, p.Ambiguous, p.Stored, p.Refused,
		round(p.Gap), round(p.Back), round(p.Quiet), p.Succeeded, p.Effects, p.Violations)
	if len(p.Broken) > 0 {
		s += ": " + strings.Join(p.Broken, ", ")
	}
	if p.Note != "" {
		s += "; " + p.Note
	}
	return s
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// Demand fails the test unless every promise was kept, and enough happened to show
// it.
func (p *Report) Demand(r *Rig, atLeast int) {
	r.T.Helper()
	if p.Lost > 0 || p.Open > 0 {
		r.T.Errorf("%d acknowledged operations are lost, %d have not ended", p.Lost, p.Open)
	}
	if p.Violations > 0 {
		r.T.Errorf("%d violations: %v", p.Violations, p.Broken)
	}
	if p.Effects != p.Succeeded {
		r.T.Errorf("the entities count %d effects, %d operations succeeded", p.Effects, p.Succeeded)
	}
	if p.Acked < atLeast {
		r.T.Errorf("only %d acknowledged, %d would show something", p.Acked, atLeast)
	}
}
