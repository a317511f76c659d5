package arbiter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

func TestParsePolicy(t *testing.T) {
	want := arbiter.DefaultPolicy()
	want.Revision = 7
	for _, empty := range []string{"", "{}"} {
		if got, err := arbiter.ParsePolicy([]byte(empty), 7); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v, %s", empty, err, cmp.Diff(want, got))
		}
	}
	want.StagingWindow, want.AttemptTimeout, want.MaxStaged = 0, time.Minute, 5
	want.WindowByPrefix = map[string]time.Duration{"vip-": time.Millisecond}
	got, err := arbiter.ParsePolicy([]byte(`{"conflict_check_interval":"20ms","staging_window":"0s","attempt_timeout":"1m",`+
		`"max_staged_per_target":5,"window_by_prefix":{"vip-":"1ms"}}`), 7)
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	if got, err = arbiter.ParsePolicy([]byte(`{"conflict_check_interval":"20ms"}`), 7); err != nil || got.StagingWindow != 20*time.Millisecond {
		t.Errorf("the seeds' name of the window: %v, %s", err, got.StagingWindow)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for body, why := range map[string]string{
		`{"staging_windwo":"1ms"}`:                           "unknown field",
		`{"staging_window":10}`:                              "a duration is a string",
		`{"staging_window":"-1ms"}`:                          "not a duration",
		`{"window_by_type":{"version_entity":"soon"}}`:       "not a duration",
		`{"max_staged_per_target":0}`:                        "1..2000",
		`{"max_staged_per_target":2001}`:                     "1..2000",
		`{"attempt_timeout":"99ms"}`:                         "at least 100ms",
		`{"default_max_retries":-1}`:                         "0..1000",
		`{"retry_base_delay":"0s"}`:                          "retry_base_delay",
		`{"retry_base_delay":"2s","retry_max_delay":"1s"}`:   "retry_max_delay",
		`{"max_operation_age":"0s"}`:                         "positive",
		`{"max_operation_age":"1h","preemption":"whenever"}`: "neither never nor after_grace",
		`{}{}`: "something after",
		`{}}`:  "something after",
		`[]`:   "cannot unmarshal",
	} {
		if _, err := arbiter.ParsePolicy([]byte(body), 1); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want something with %q", body, err, why)
		}
	}
}

func TestTheSeedsNamesOfTheConfiguration(t *testing.T) {
	p, err := arbiter.ParsePolicy([]byte(`{"max_concurrent_operations":1000,"operation_queue_size":9,"event_bus_buffer_size":10,`+
		`"metrics_collection_interval":"2s","max_memory_mb":64}`), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := arbiter.RolePolicy{EventBuffer: 10, MetricsInterval: 2 * time.Second, MaxMemoryMB: 64}
	if p.Roles != want || p.MaxOpen != 9 {
		t.Errorf("%+v, %d open", p.Roles, p.MaxOpen)
	}
	for partitions, each := range map[int]int{1: 1000, 16: 63, 1024: 1} {
		if got := p.For(partitions).MaxExecuting; got != each {
			t.Errorf("%d partitions execute %d each, want %d", partitions, got, each)
		}
	}
	for body, why := range map[string]string{
		`{"max_concurrent_operations":0}`:                                 "at least 1",
		`{"max_concurrent_operations":5,"max_executing_per_partition":5}`: "not be given as well",
		`{"event_bus_buffer_size":0}`:                                     "event_bus_buffer_size",
		`{"metrics_collection_interval":"1ms"}`:                           "metrics_collection_interval",
		`{"max_memory_mb":1}`:                                             "max_memory_mb",
	} {
		if _, err := arbiter.ParsePolicy([]byte(body), 1); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want something with %q", body, err, why)
		}
	}
}

func TestTheDefaultOfRetriesIsThePolicys(t *testing.T) {
	p, err := arbiter.ParsePolicy([]byte(`{"default_max_retries":7,"types":{"mail":{},"sms":{"max_retries":1},"modify_field":{"max_retries":2}}}`), 1)
	if err != nil {
		t.Fatal(err)
	}
	types := p.OpTypes()
	for name, want := range map[string]int{
		op.TypeCreate: 7, op.TypeModifyField: 2, op.TypeAttach: 20, op.TypeFollowUp: op.MaxRetry, "mail": 7, "sms": 1,
	} {
		if got := types[name].MaxRetries; got != want {
			t.Errorf("%s is retried %d times unless it says otherwise, want %d", name, got, want)
		}
	}
}
