package entity_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestScripts runs the stories in testdata. Each block "do" holds sentences:
//
//	create ID [with NAME=JSON …] [below ID] · set ID NAME=JSON · version ID · delete ID
//	borrow ID.FIELD from ID.FIELD · update ID [set|increment|append NAME=JSON]…
//	promote ID · detach ID · attach ID to ID          (each: … expecting version N)
//	begin SENTENCE · commit     computes now, commits later: two at the same time
//	hold · release              follow-ups wait · follow-ups run
//	show ID · history ID · read ADDRESS · blame ID.FIELD
//
// and prints facts. A bare word after = stands for a string.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{world: newWorld(t)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "do" {
				d.Fatalf(t, "unknown block %q", d.Cmd)
			}
			s.out.Reset()
			for line := range strings.SplitSeq(d.Input, "\n") {
				if err := s.sentence(strings.Fields(line)); err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
			}
			return s.out.String()
		})
		s.settle(nil)
		s.checkTrees()
		s.checkHistory()
	})
}

type begun struct {
	o *op.Operation
	c *entity.Change
}

type script struct {
	*world
	out   strings.Builder
	held  bool
	begun []begun
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *script) sentence(words []string) error {
	switch words[0] {
	case "hold":
		s.held = true
	case "release":
		s.held = false
		s.follow()
	case "begin":
		o, err := s.parse(words[1:])
		if err != nil {
			return err
		}
		c, f := entity.Compute(o, s.heads[o.Target], s.look)
		if f != nil {
			s.fail(f)
			return nil
		}
		s.begun = append(s.begun, begun{o, c})
		s.say("%s begins", o.Target)
	case "commit":
		for _, b := range s.begun {
			s.fact(s.commit(b.o, b.c))
		}
		s.begun = nil
		s.follow()
	case "show", "history", "read", "blame":
		return s.ask(words[0], words[1])
	default:
		return s.act(words)
	}
	return nil
}

func (s *script) act(words []string) error {
	o, err := s.parse(words)
	if err != nil {
		return err
	}
	if err := entity.CheckParams(o); err != nil {
		s.say("refused at the edge: %s (%s)", err.Message, err.Field)
		return nil
	}
	e, f := s.do(o)
	if f != nil {
		s.fail(f)
		return nil
	}
	s.fact(e)
	s.follow()
	return nil
}

func (s *script) follow() {
	if !s.held {
		s.settle(func(e *entity.Entity) { s.out.WriteString("  then "); s.fact(e) })
	}
}

func (s *script) fail(f *op.Failure) {
	kind := "for now"
	if f.Terminal {
		kind = "for good"
	}
	s.say("failed %s (%s): %s", kind, f.Code, f.Message)
}

func (s *script) fact(e *entity.Entity) {
	note, _, _ := strings.Cut(e.History[len(e.History)-1].Text, " at 2025-")
	s.say("%s is at version %d, revision %d: %s", e.ID, e.Version, e.Revision, note)
}

func (s *script) ask(what, about string) error {
	switch what {
	case "show":
		s.show(s.heads[about])
	case "history":
		for _, n := range s.heads[about].History {
			s.say("%d by %s: %s", n.Revision, n.OpID, n.Text)
		}
	case "blame":
		id, field, _ := strings.Cut(about, ".")
		if e, ok := s.lines[id].Blame(field); ok {
			s.say("%s since revision %d, by %s", about, e.Revision, e.OpID)
		} else {
			s.say("nobody")
		}
	case "read":
		a, err := entity.ParseAddr(about)
		if err != nil {
			return err
		}
		e, found := s.lines[a.ID].Read(a)
		v, ok := a.Select(e)
		if !found || !ok {
			s.say("there is no %s", a)
			return nil
		}
		s.say("%s", v)
	}
	return nil
}

func (s *script) show(e *entity.Entity) {
	state := "entity"
	if e.Deleted {
		state = "tombstone"
	}
	s.say("%s %s, version %d, revision %d, versioned %d times, borrowed %d times", state, e.ID, e.Version, e.Revision, e.VersionCount, e.BorrowCount)
	s.say("  parent %q, root %s, children %v", e.ParentID, e.RootID, e.Children)
	s.say("  fields %s from %s", encode(s.tb, e.Fields), encode(s.tb, e.AttributeSource))
	s.say("  %d older versions, created %s, last changed %s by %s", len(e.OldVersionIDs), e.CreatedAt.Format("15:04:05"), e.LastModified.Format("15:04:05"), e.LastOpID)
}

// parse turns a sentence into an operation.
func (s *script) parse(words []string) (*op.Operation, error) {
	var expected *int64
	if n := len(words); n > 3 && words[n-3] == "expecting" {
		v, err := strconv.ParseInt(words[n-1], 10, 64)
		if err != nil {
			return nil, err
		}
		expected, words = &v, words[:n-3]
	}
	o, err := s.build(words)
	if err == nil {
		o.ExpectedVersion = expected
	}
	return o, err
}

func (s *script) build(words []string) (*op.Operation, error) {
	verb, id, rest := words[0], words[1], words[2:]
	plain := map[string]string{"version": op.TypeVersion, "delete": op.TypeDelete, "promote": op.TypePromoteToRoot, "detach": op.TypeDetach}
	switch verb {
	case "version", "delete", "promote", "detach":
		return s.operation(plain[verb], id, nil), nil
	case "create":
		params := map[string]any{}
		for i, w := range rest {
			if w == "below" {
				params["parent_id"] = rest[i+1]
				rest = rest[:i]
				break
			}
		}
		if len(rest) > 0 {
			params["fields"] = values(rest[1:])
		}
		return s.operation(op.TypeCreate, id, params), nil
	case "set":
		name, value, _ := strings.Cut(rest[0], "=")
		return s.operation(op.TypeModifyField, id, map[string]any{"field_name": name, "new_value": word(value)}), nil
	case "borrow":
		target, to, _ := strings.Cut(id, ".")
		source, from, _ := strings.Cut(rest[1], ".")
		return s.operation(op.TypeBorrow, target, map[string]any{"source_entity_id": source, "source_field": from, "target_field": to}), nil
	case "attach":
		return s.operation(op.TypeAttach, id, map[string]any{"parent_id": rest[1]}), nil
	case "update":
		params, part := map[string]map[string]json.RawMessage{}, ""
		for _, w := range rest {
			if name, value, assigns := strings.Cut(w, "="); assigns {
				params[part][name] = word(value)
			} else {
				part = w
				params[part] = map[string]json.RawMessage{}
			}
		}
		return s.operation(op.TypeComplexUpdate, id, params), nil
	}
	return nil, fmt.Errorf("unknown verb %q", verb)
}

func values(words []string) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		m[name] = word(value)
	}
	return m
}

func word(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	b, _ := json.Marshal(s)
	return b
}
