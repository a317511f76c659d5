package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// storedPolicy is one revision of the policy as it was written.
type storedPolicy struct {
	rev     uint64 // 0: it is not on the server
	at      time.Time
	data    []byte
	set     map[string]json.RawMessage
	invalid string // why the resolvers refuse it
}

// parsePolicy reads a policy as operators write it. One that breaks a rule is
// returned with the reason.
func parsePolicy(data []byte, rev uint64) (*storedPolicy, error) {
	p := &storedPolicy{rev: rev, data: data, set: map[string]json.RawMessage{}}
	if len(data) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(data, &p.set); err != nil {
		err = notAnObject(err)
		p.invalid = err.Error()
		return p, err
	}
	err := checkPolicy(data, rev)
	if err != nil {
		p.invalid = err.Error()
	}
	return p, err
}

// checkPolicy asks what the resolvers ask before they follow a policy. Who sets
// one should hear of it: they refuse it in silence and keep the one before.
func checkPolicy(data []byte, rev uint64) error {
	parsed, err := arbiter.ParsePolicy(data, rev)
	if err != nil {
		return op.Errorf(op.CodeBadPolicy, "", "%s", policyMistake(data, err))
	}
	_, err = registry.New(parsed)
	return err
}

// readPolicy returns the policy on the server. One that breaks a rule can be
// read, so that it can be mended.
func readPolicy(ctx context.Context, b *bus.Bus) (*storedPolicy, error) {
	data, rev, err := b.Policy(ctx)
	if err != nil {
		return nil, err
	}
	p, err := parsePolicy(data, rev)
	if len(p.set) == 0 && err != nil {
		return nil, fmt.Errorf("revision %d on the server: %w", rev, err)
	}
	return p, nil
}

// policyHistory returns the revisions that the bucket keeps, oldest first.
func policyHistory(ctx context.Context, b *bus.Bus) ([]storedPolicy, error) {
	kv, err := b.JetStream().KeyValue(ctx, "OPS_CONFIG")
	if err != nil {
		return nil, err
	}
	_, rev, err := b.Policy(ctx)
	if err != nil || rev == 0 {
		return nil, err
	}
	entries, err := kv.History(ctx, "policy")
	if err != nil {
		return nil, err
	}
	var all []storedPolicy
	for _, e := range entries {
		p, _ := parsePolicy(e.Value(), e.Revision()) // what is wrong with it is in it
		p.at = e.Created()
		all = append(all, *p)
	}
	return all, nil
}

func readRevision(ctx context.Context, b *bus.Bus, rev uint64) (*storedPolicy, error) {
	all, err := policyHistory(ctx, b)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].rev == rev {
			return &all[i], nil
		}
	}
	return nil, exitWith(daemon.ExitNotFound, "revision %d of the policy is not kept; `hierarchy config history` lists those that are", rev)
}

// changedPolicy returns the policy on the server and what a command line makes
// of it, checked.
func (a *app) changedPolicy(ctx context.Context, b *bus.Bus, c *configChange, args []string) (before, after *storedPolicy, err error) {
	var data []byte
	if c.file != "" {
		if data, err = a.readFile("file", c.file); err != nil {
			return nil, nil, err
		}
	}
	if before, err = readPolicy(ctx, b); err != nil {
		// One that nobody can read can only be replaced as a whole.
		if c.file == "" {
			return nil, nil, err
		}
		_, rev, rerr := b.Policy(ctx)
		if rerr != nil {
			return nil, nil, rerr
		}
		before = &storedPolicy{rev: rev}
	}
	if c.file == "" {
		set := map[string]json.RawMessage{}
		maps.Copy(set, before.set)
		for _, arg := range args {
			key, value, ok := strings.Cut(arg, "=")
			if !ok || key == "" {
				return nil, nil, usagef("%q is not key=value", arg)
			}
			if err := put(set, strings.Split(key, "."), value); err != nil {
				return nil, nil, err
			}
		}
		if data, err = op.Marshal(set); err != nil {
			return nil, nil, err
		}
	}
	if after, err = parsePolicy(data, before.rev); err != nil {
		return nil, nil, daemon.Exit(daemon.ExitUsage, err)
	}
	return before, after, nil
}

// openInput opens a file that a flag names. A file that cannot be read is wrong
// usage, whichever command wants it.
func openInput(flag, name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usagef("--%s: %w", flag, err)
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		_ = f.Close() // nothing was read
		return nil, usagef("--%s: %s is a directory", flag, name)
	}
	return f, nil
}

// readFile reads a file of modest size that a flag names; - is stdin.
func (a *app) readFile(flag, name string) ([]byte, error) {
	in := a.in
	if name != "-" {
		f, err := openInput(flag, name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, arbiter.MaxPolicyBytes+1))
	return bytes.TrimSpace(data), err
}

// put sets a value in an object, or in one inside it. An empty value takes the
// key out, and every object that is empty without it.
func put(set map[string]json.RawMessage, path []string, value string) error {
	key := path[0]
	if !utf8.ValidString(key) || !utf8.ValidString(value) { // JSON would hold something else
		return usagef("%q=%q is not UTF-8", key, value)
	}
	if len(path) == 1 {
		if value == "" {
			delete(set, key)
			return nil
		}
		raw, err := op.Marshal(valueOf(value))
		set[key] = raw
		return err
	}
	inner := map[string]json.RawMessage{}
	if raw, there := set[key]; there {
		if err := json.Unmarshal(raw, &inner); err != nil {
			return usagef("%s is not an object, so it has no %s", key, strings.Join(path[1:], "."))
		}
		if inner == nil { // it was null
			inner = map[string]json.RawMessage{}
		}
	}
	if err := put(inner, path[1:], value); err != nil {
		return err
	}
	if len(inner) == 0 {
		delete(set, key)
		return nil
	}
	raw, err := op.Marshal(inner)
	set[key] = raw
	return err
}

// policyChange is one difference between two policies.
type policyChange struct {
	Field  string          `json:"field"` // with dots into objects
	From   json.RawMessage `json:"from,omitempty"`
	To     json.RawMessage `json:"to,omitempty"`
	OldDef bool            `json:"from_default,omitempty"` // From is the default
	NewDef bool            `json:"to_default,omitempty"`   // To is the default
}

// String is the change as a person reads it.
func (c policyChange) String() string {
	one := func(v json.RawMessage, byDefault bool) string {
		switch {
		case v == nil:
			return "nothing"
		case byDefault:
			return plainText(v) + " (default)"
		}
		return plainText(v)
	}
	return fmt.Sprintf("%s: %s → %s", c.Field, one(c.From, c.OldDef), one(c.To, c.NewDef))
}

// changes lists the differences of two policies, by field.
func changes(before, after *storedPolicy) []policyChange {
	from, to := flat(before.set), flat(after.set)
	byDefault := defaults()
	all := maps.Clone(from)
	maps.Copy(all, to)
	list := []policyChange{}
	for _, field := range sortedKeys(all) {
		c := policyChange{Field: field, From: from[field], To: to[field]}
		if bytes.Equal(c.From, c.To) {
			continue
		}
		if c.From == nil {
			c.From = byDefault[field]
			c.OldDef = c.From != nil
		}
		if c.To == nil {
			c.To = byDefault[field]
			c.NewDef = c.To != nil
		}
		list = append(list, c)
	}
	return list
}

// flat turns nested objects into fields with dots. A JSON Schema stays in one
// piece.
func flat(set map[string]json.RawMessage) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for key, raw := range set {
		var inner map[string]json.RawMessage
		if key == "schema" || json.Unmarshal(raw, &inner) != nil || len(inner) == 0 {
			var b bytes.Buffer
			if json.Compact(&b, raw) == nil {
				raw = b.Bytes()
			}
			out[key] = raw
			continue
		}
		for deeper, value := range flat(inner) {
			out[key+"."+deeper] = value
		}
	}
	return out
}

// defaults are the fields with a value of their own where nothing is set, as
// operators write them.
func defaults() map[string]json.RawMessage {
	d := arbiter.DefaultPolicy()
	m := map[string]json.RawMessage{}
	for name, v := range map[string]any{
		"staging_window": d.StagingWindow, "conflict_check_interval": d.StagingWindow, "grace_period": d.GracePeriod,
		"attempt_timeout": d.AttemptTimeout, "retry_base_delay": d.RetryBase, "retry_max_delay": d.RetryMax,
		"max_operation_age": d.MaxOperationAge, "default_max_retries": d.MaxRetries, "max_staged_per_target": d.MaxStaged,
		"max_executing_per_partition": d.MaxExecuting, "operation_queue_size": d.MaxOpen, "max_preemptions": d.MaxPreemptions,
		"event_bus_buffer_size": d.Roles.EventBuffer, "metrics_collection_interval": d.Roles.MetricsInterval, "max_memory_mb": d.Roles.MaxMemoryMB,
		"preemption": "never", "priority_out_of_range": "clamp",
	} {
		if t, ok := v.(time.Duration); ok {
			v = t.String()
		}
		raw, err := op.Marshal(v)
		if err != nil { // numbers and texts
			panic(err)
		}
		m[name] = raw
	}
	return m
}

// effective is what is set, and the default of everything else that has one.
func (p *storedPolicy) effective() map[string]json.RawMessage {
	all := defaults()
	if _, old := p.set["conflict_check_interval"]; old && p.set["staging_window"] == nil {
		delete(all, "staging_window")
	} else {
		delete(all, "conflict_check_interval") // another name for the same
	}
	if p.set["max_concurrent_operations"] != nil {
		delete(all, "max_executing_per_partition") // it follows from the number of partitions
	}
	maps.Copy(all, p.set)
	return all
}

// plainText is a value without the marks of a JSON text around it.
func plainText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

// errNoServer is what tells a command that would like to ask a server, and can do
// without, that there is none.
var errNoServer = errors.New("no server")

// registered returns the types of the policy on the server, with their schemas.
// Without a server the error wraps errNoServer.
func (a *app) registered(ctx context.Context) (types op.Types, err error) {
	err = a.ask(ctx, func(ctx context.Context, b *bus.Bus) error {
		data, rev, err := b.Policy(ctx)
		if err != nil {
			return err
		}
		p, err := arbiter.ParsePolicy(data, rev)
		if err != nil {
			return err
		}
		types = p.OpTypes()
		return nil
	})
	if slices.Contains([]int{daemon.ExitUnreachable, daemon.ExitTimeout}, daemon.ExitCode(err)) || errors.Is(err, bus.ErrNotSetUp) {
		return nil, fmt.Errorf("%w: %w", errNoServer, err)
	}
	return types, err
}
