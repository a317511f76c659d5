package arbiter_test

import (
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
	case "cancel":
		return arbiter.Input{Cancel: &arbiter.Cancel{OpID: id, Target: a.or("target", s.sent[id].Operation.Target)}}
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

func (s *script) operation(id string, a args) op.Operation {
	retries := s.number(a.or("max_retries", "3"))
	o := op.Operation{
		ID: id, Type: a.or("type", op.TypeModifyField), Target: a.or("target", "door"), Priority: s.priority(a.or("priority", "NORMAL")),
		Parent: a["parent"], MaxRetries: &retries, OnConflict: op.Conflict(a.or("on_conflict", "reject")),
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

func (s *script) policy(list []datadriven.CmdArg) *arbiter.Policy {
	p := arbiter.DefaultPolicy()
	p.Revision = s.m.Policy().Revision + 1
	for _, arg := range list {
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
		default:
			s.t.Fatalf("no policy %q", arg.Key)
		}
	}
	return &p
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
