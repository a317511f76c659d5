package executor

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// leased is an attempt of a custom type with a lease.
func leased(id string, lease time.Duration) op.Work {
	w := custom(id)
	w.Lease, w.LeaseEnds = lease, time.Now().Add(lease)
	return w
}

// A handler that is quick costs no heartbeat, whatever its lease; a slow one that
// never says anything sends one, to claim its attempt, and gains no time by it.
func TestClaim(t *testing.T) {
	for _, c := range []struct {
		name         string
		lease, takes time.Duration
		claim, fails time.Duration // 0: never
	}{
		{"quick", 30 * time.Second, 900 * time.Millisecond, 0, 0},
		{"quick for its lease", 900 * time.Millisecond, 250 * time.Millisecond, 0, 0},
		{"slow", 30 * time.Second, 10 * time.Second, time.Second, 0},
		{"slow for its lease", 900 * time.Millisecond, 600 * time.Millisecond, 300 * time.Millisecond, 0},
		{"hangs", 30 * time.Second, time.Hour, time.Second, 29750 * time.Millisecond},
		{"hangs for its lease", 900 * time.Millisecond, time.Hour, 300 * time.Millisecond, 810 * time.Millisecond},
		{"hangs in no time", 100 * time.Millisecond, time.Hour, 100 * time.Millisecond / 3, 90 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bus.Bus) {
				var claimed time.Time
				got, beats := ownerOf(t, b, 1, accept, func(v op.Beat) *op.ResultAck {
					claimed = time.Now()
					if v.Type != op.BeatType || v.OpID != "a" || v.Target != "user-1" || v.Attempt != 1 || v.Executor != "test" {
						t.Errorf("%+v", v)
					}
					return &op.ResultAck{Accepted: true, Lease: c.lease}
				})
				r := start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, _ *Task) (*entity.Change, error) {
					wait(ctx, c.takes)
					return nil, nil
				})})
				began := time.Now()
				offer(t, b, leased("a", c.lease))
				res := takeWithin(t, got, time.Minute)
				took := time.Since(began)
				r.end()
				switch {
				case c.claim == 0 && len(beats) > 0 || c.claim > 0 && len(beats) != 1:
					t.Errorf("%d heartbeats", len(beats))
				case c.claim > 0 && claimed.Sub(began) != c.claim:
					t.Errorf("claimed after %s", claimed.Sub(began))
				}
				if c.fails == 0 && (res.Failure != nil || took != c.takes) || c.fails > 0 && (res.Failure == nil || res.Failure.Code != CodeTimeout || took != c.fails) {
					t.Errorf("%+v after %s", res.Failure, took)
				}
			})
		})
	}
}

// An attempt that has waited for most of its lease is claimed early, unless it is
// done at once.
func TestClaimAfterAWait(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got, beats := ownerOf(t, b, 1, accept, prolong(30*time.Second))
		start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			if k.Operation.ID == "slow" {
				wait(ctx, 10*time.Second)
			}
			return nil, nil
		})})
		for _, c := range []struct {
			id    string
			left  time.Duration
			claim time.Duration
		}{
			{"quick", 100 * time.Millisecond, 0},
			{"slow", 600 * time.Millisecond, 200 * time.Millisecond},
			{"slow", time.Millisecond, 50 * time.Millisecond},
			{"slow", -time.Hour, 50 * time.Millisecond},
			{"slow", time.Hour, time.Second},
		} {
			began := time.Now()
			w := leased(c.id, 30*time.Second)
			w.LeaseEnds = time.Now().Add(c.left)
			offer(t, b, w)
			if c.claim > 0 {
				take(t, beats)
				if took := time.Since(began); took != c.claim {
					t.Errorf("%s with %s left: claimed after %s", c.id, c.left, took)
				}
			}
			take(t, got)
		}
		if len(beats) > 0 {
			t.Error("a quick attempt was claimed")
		}
	})
}

// Signs of life prolong an attempt for as long as they come, and cost three
// heartbeats a lease however many they are.
func TestHeartbeatsProlong(t *testing.T) {
	for name, live := range map[string]func(context.Context, *Task) error{
		"often": func(ctx context.Context, k *Task) error {
			for range 600 {
				if err := k.Heartbeat(); err != nil {
					return err
				}
				wait(ctx, 100*time.Millisecond)
			}
			return nil
		},
		"seldom": func(ctx context.Context, k *Task) error {
			for range 10 {
				wait(ctx, 6*time.Second)
				if err := k.Heartbeat(); err != nil {
					return err
				}
			}
			return nil
		},
		"by itself": func(ctx context.Context, k *Task) error {
			k.KeepAlive()
			wait(ctx, time.Minute)
			return context.Cause(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bus.Bus) {
				lease := 9 * time.Second
				got, beats := ownerOf(t, b, 1, accept, prolong(lease))
				start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
					began := time.Now()
					err := live(ctx, k)
					if k.Deadline().Sub(began) < time.Minute {
						t.Errorf("the deadline has only moved to %s", k.Deadline().Sub(began))
					}
					return nil, err
				})})
				began := time.Now()
				offer(t, b, leased("a", lease))
				if res := takeWithin(t, got, time.Hour); res.Failure != nil || time.Since(began) < time.Minute {
					t.Errorf("%+v after %s", res.Failure, time.Since(began))
				}
				if n := len(beats); n < 9 || n > 21 {
					t.Errorf("%d heartbeats in a minute with a lease of %s", n, lease)
				}
			})
		})
	}
}

// A handler that stops showing signs of life has one lease from the last one.
func TestHeartbeatsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got, _ := ownerOf(t, b, 1, accept, prolong(6*time.Second))
		start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			for range 10 {
				k.Heartbeat()
				wait(ctx, time.Second)
			}
			<-ctx.Done()
			return nil, nil
		})})
		began := time.Now()
		offer(t, b, leased("a", 6*time.Second))
		res := take(t, got)
		// The last sign comes after 9 s and is heard of with the next heartbeat.
		if took := time.Since(began); res.Failure == nil || res.Failure.Code != CodeTimeout || took < 14*time.Second || took > 17*time.Second {
			t.Errorf("%+v after %s", res.Failure, took)
		}
	})
}

// A refused heartbeat stops the handler at once, and nothing is reported.
func TestRefusedHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		got, _ := ownerOf(t, b, 1, accept, func(op.Beat) *op.ResultAck { return &op.ResultAck{Why: "the current attempt is 2"} })
		why := make(chan error, 1)
		r := start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			<-ctx.Done()
			why <- errors.Join(context.Cause(ctx), k.Heartbeat())
			return &entity.Change{Kind: entity.Noted}, nil
		})})
		began := time.Now()
		offer(t, b, leased("a", 30*time.Second))
		if err := take(t, why); !errors.Is(err, ErrRevoked) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		empty(t, b)
		if len(got) != 0 || r.stats.Revoked.Load() != 1 {
			t.Errorf("%d reports, %d revoked", len(got), r.stats.Revoked.Load())
		}
	})
}

// While nobody answers, a heartbeat is repeated; an answer that comes in time
// saves the attempt, and a take-over brings the repeat forward.
func TestHeartbeatIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		var deaf atomic.Bool
		deaf.Store(true)
		got, beats := ownerOf(t, b, 1, accept, func(op.Beat) *op.ResultAck {
			if deaf.Load() {
				return nil
			}
			return &op.ResultAck{Accepted: true, Lease: 20 * time.Second}
		})
		start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			k.Heartbeat()
			wait(ctx, 30*time.Second)
			return nil, context.Cause(ctx)
		})})
		offer(t, b, leased("a", 20*time.Second))
		take(t, beats)
		began := time.Now()
		take(t, beats)
		if took := time.Since(began); took < firstPatience || took > firstPatience+time.Second {
			t.Errorf("repeated after %s", took)
		}
		deaf.Store(false)
		began = time.Now()
		offerRaw(t, b, bus.EventSubject(op.EventTakeover, "1"), nil)
		take(t, beats)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("repeated %s after the take-over", took)
		}
		// The lease now counts from six seconds after the start: too short.
		if res := takeWithin(t, got, time.Minute); res.Failure == nil || res.Failure.Code != CodeTimeout {
			t.Errorf("%+v", res.Failure)
		}

		deaf.Store(true)
		offer(t, b, leased("b", 6*time.Second))
		began = time.Now()
		if res := take(t, got); res.OpID != "b" || res.Failure == nil || time.Since(began) > 6*time.Second {
			t.Errorf("%s %+v after %s", res.OpID, res.Failure, time.Since(began))
		}
	})
}

// A sign of life that comes at the last moment is heard before the attempt is
// given up, and an answer may shorten the lease, as a new policy does.
func TestHeartbeatAtTheLastMoment(t *testing.T) {
	bubble(t, func(t *testing.T, b *bus.Bus) {
		slow := func(v op.Beat) *op.ResultAck {
			if v.OpID == "late" {
				time.Sleep(200 * time.Millisecond)
			}
			return &op.ResultAck{Accepted: true, Lease: 10 * time.Second}
		}
		got, _ := ownerOf(t, b, 1, accept, slow)
		start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, k *Task) (*entity.Change, error) {
			if k.Operation.ID == "late" {
				wait(ctx, 9700*time.Millisecond)
				k.Heartbeat()
				wait(ctx, 5*time.Second)
				return nil, context.Cause(ctx)
			}
			<-ctx.Done()
			return nil, nil
		})})
		offer(t, b, leased("late", 10*time.Second))
		if res := take(t, got); res.Failure != nil {
			t.Errorf("%+v", res.Failure)
		}
		began := time.Now()
		offer(t, b, leased("long", time.Hour))
		if res := take(t, got); res.Failure == nil || time.Since(began) != 10750*time.Millisecond {
			t.Errorf("%+v after %s", res.Failure, time.Since(began))
		}
	})
}

// What the public events say about an attempt stops its handler.
func TestRumours(t *testing.T) {
	for _, c := range []struct {
		name  string
		event op.Event
		stops bool // at once
		asks  bool // the owner, who says yes
	}{
		{"cancelled", op.Event{Name: op.EventCancelled, OpID: "a"}, true, false},
		{"preempted", op.Event{Name: op.EventPreempted, OpID: "a", Attempt: 2}, true, false},
		{"lapsed", op.Event{Name: op.EventRetry, OpID: "a", Attempt: 2}, true, false},
		{"an earlier attempt", op.Event{Name: op.EventRetry, OpID: "a", Attempt: 1}, false, false},
		{"some attempt", op.Event{Name: op.EventRetry, OpID: "a"}, false, true},
		{"another operation", op.Event{Name: op.EventCancelled, OpID: "b"}, false, false},
		{"another event", op.Event{Name: op.EventSubmitted, OpID: "a", Attempt: 2}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bus.Bus) {
				got, beats := ownerOf(t, b, 1, accept, prolong(30*time.Second))
				r := start(t, Config{Bus: b, Handlers: handlers(func(ctx context.Context, _ *Task) (*entity.Change, error) {
					wait(ctx, 700*time.Millisecond)
					return nil, nil
				})})
				w := leased("a", 30*time.Second)
				w.Attempt = 2
				offer(t, b, w)
				time.Sleep(500 * time.Millisecond)
				body, err := json.Marshal(c.event)
				if err != nil {
					t.Fatal(err)
				}
				offerRaw(t, b, bus.EventSubject(c.event.Name, "user-1"), body)
				offerRaw(t, b, bus.EventSubject(op.EventCancelled, "user-2"), []byte(`{"event":"operation.cancelled","op_id":"a"}`))
				offerRaw(t, b, bus.EventSubject(op.EventCancelled, "user-1"), []byte(`garbage`))
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if stopped := r.stats.Running.Load() == 0; stopped != c.stops || (len(beats) > 0) != c.asks {
					t.Errorf("stopped %v, asked %d times", stopped, len(beats))
				}
				empty(t, b)
				if (len(got) == 0) != c.stops {
					t.Errorf("%d reports", len(got))
				}
				if n := b.Conn().NumSubscriptions(); n > 8 {
					t.Errorf("%d subscriptions are left", n)
				}
			})
		})
	}
}
