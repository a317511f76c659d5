package arbiter_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// args are the arguments of one line of a script, by name.
type args map[string]string

func named(list []datadriven.CmdArg) (subject string, a args) {
	a = args{}
	for i, arg := range list {
		if i == 0 && len(arg.Vals) == 0 {
			subject = arg.Key
			continue
		}
		a[arg.Key] = strings.Join(arg.Vals, ", ")
	}
	return subject, a
}

func (a args) or(key, otherwise string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return otherwise
}

// input reads one line of a script.
func (s *script) input(cmd string, list []datadriven.CmdArg, place op.Place) arbiter.Input {
	id, a := named(list)
	switch cmd {
	case "submit":
		in := arbiter.Submit{Place: place, Operation: s.operation(id, a), CausedBy: a["caused_by"]}
		s.sent[id] = in
		return arbiter.Input{Submit: &in}
	case "again":
		in := s.sent[id]
		s.seq++
		in.Place = op.Place{Seq: s.seq}
		return arbiter.Input{Submit: &in}
	case "finish", "fail":
		return arbiter.Input{Result: s.result(id, a, cmd == "fail")}
	case "beat":
		r := s.result(id, a, false)
		return arbiter.Input{Beat: &arbiter.Beat{OpID: id, Target: r.Target, Attempt: r.Attempt, Executor: r.Executor}}
	case "cancel":
		return arbiter.Input{Cancel: s.cancel(id, a, place)}
	case "kin":
		k := arbiter.Kin{OpID: id, Parent: a["parent"]}
		if _, k.Unknown = a["unknown"]; k.Unknown {
			k.Upto = uint64(s.number(a.or("upto", strconv.FormatUint(s.seq, 10))))
		} else {
			k.Priority = s.priority(a.or("priority", "NORMAL"))
		}
		return arbiter.Input{Kin: &k}
	case "policy":
		return arbiter.Input{Policy: s.policy(list)}
	case "invalid":
		return arbiter.Input{Invalid: &arbiter.Invalid{Place: place, Target: id, Error: op.Errorf(op.CodeBadID, "op_id", "not an id")}}
	}
	s.t.Fatalf("no command %q", cmd)
	return arbiter.Input{}
}

func (s *script) cancel(id string, a args, place op.Place) *arbiter.Cancel {
	c := &arbiter.Cancel{Place: place, Submitter: a["submitter"]}
	_, c.Alone = a["alone"]
	if all, ok := a["ancestors"]; ok {
		c.Ancestors = strings.Split(all, ", ")
	}
	switch {
	case id == "all":
		c.All, c.Target = true, a.or("target", "door")
	case id != "":
		c.OpID, c.Target = id, a.or("target", s.sent[id].Operation.Target)
	}
	return c
}

func (s *script) operation(id string, a args) op.Operation {
	retries := s.number(a.or("max_retries", "3"))
	o := op.Operation{
		ID: id, Type: a.or("type", op.TypeModifyField), Target: a.or("target", "door"), Priority: s.priority(a.or("priority", "NORMAL")),
		Parent: a["parent"], MaxRetries: &retries, OnConflict: op.Conflict(a.or("on_conflict", "reject")),
	}
	o.Submitter, o.Source = a["submitter"], a["source"]
	_, o.Preemptible = a["preemptible"]
	if v, ok := a["params"]; ok {
		o.Params = []byte(strconv.Quote(v))
	}
	if v, ok := a["expected_version"]; ok {
		n := int64(s.number(v))
		o.ExpectedVersion = &n
	}
	if d, ok := a["deadline"]; ok {
		o.Deadline = &op.Deadline{After: s.duration(d)}
	}
	if d, ok := a["deadline_at"]; ok {
		o.Deadline = &op.Deadline{At: epoch.Add(s.duration(d))}
	}
	return o
}

// result is one of the current attempt, unless the line names another.
func (s *script) result(id string, a args, failed bool) *arbiter.Result {
	v, _ := s.m.Describe(id)
	r := &arbiter.Result{
		OpID: id, Target: a.or("target", s.sent[id].Operation.Target), Attempt: s.number(a.or("attempt", strconv.Itoa(v.Attempt))),
		Executor: a.or("by", "executor"), Duration: time.Millisecond,
	}
	if failed {
		_, terminal := a["terminal"]
		r.Failure = &op.Failure{Message: a.or("error", "it broke"), Terminal: terminal, Reason: op.Reason(a["reason"])}
		if version, ok := a["version"]; ok {
			n := uint64(s.number(version))
			r.Failure.CurrentVersion = &n
		}
	}
	return r
}

// policy is the default one with some of its fields changed: by the short names
// of scripts, or as operators name them, with dots where objects are nested.
func (s *script) policy(list []datadriven.CmdArg) *arbiter.Policy {
	tree := map[string]any{}
	var short []datadriven.CmdArg
	for _, arg := range list {
		if slices.Contains([]string{"window", "by_type", "by_prefix", "lease", "age", "staged", "executing", "retry_base", "retry_max"}, arg.Key) {
			short = append(short, arg)
			continue
		}
		at := tree
		path := strings.Split(arg.Key, ".")
		for _, name := range path[:len(path)-1] {
			if at[name] == nil {
				at[name] = map[string]any{}
			}
			at = at[name].(map[string]any)
		}
		at[path[len(path)-1]] = policyValue(arg)
	}
	data, err := json.Marshal(tree)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := arbiter.ParsePolicy(data, s.m.Policy().Revision+1)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, arg := range short {
		v := strings.Join(arg.Vals, ", ")
		switch arg.Key {
		case "window":
			p.StagingWindow = s.duration(v)
		case "by_type":
			p.WindowByType = s.windows(arg.Vals)
		case "by_prefix":
			p.WindowByPrefix = s.windows(arg.Vals)
		case "lease":
			p.AttemptTimeout = s.duration(v)
		case "age":
			p.MaxOperationAge = s.duration(v)
		case "staged":
			p.MaxStaged = s.number(v)
		case "executing":
			p.MaxExecuting = s.number(v)
		case "retry_base":
			p.RetryBase = s.duration(v)
		case "retry_max":
			p.RetryMax = s.duration(v)
		}
	}
	return &p
}

// policyValue is a list if it is written in parentheses, {} if there is nothing,
// a number if it is one, and else a text.
func policyValue(arg datadriven.CmdArg) any {
	if len(arg.Vals) == 0 {
		return map[string]any{}
	}
	if v := arg.Vals[0]; len(arg.Vals) == 1 && !strings.HasSuffix(arg.Key, "paused.types") && !strings.HasSuffix(arg.Key, "paused.targets") {
		if n, err := strconv.Atoi(v); err == nil {
			return n
		}
		return v
	}
	return arg.Vals
}

func (s *script) windows(pairs []string) map[string]time.Duration {
	m := map[string]time.Duration{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, ":")
		m[key] = s.duration(value)
	}
	return m
}

func (s *script) priority(text string) op.Priority {
	p, err := op.ParsePriority(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *script) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
