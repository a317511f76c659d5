// Package optest runs a whole Hierarchy inside a test: a NATS server, a
// submitter, resolvers, executors and an observer, in this process and in
// memory, in some tens of milliseconds. It is the real code and no imitation:
// what passes here meets the same rules in production.
//
//	func TestRename(t *testing.T) {
//		s := optest.Start(t)
//		s.Do(op.Operation{Type: op.TypeCreate, Target: "user-42", Params: json.RawMessage(`{"fields":{"name":"Bob"}}`)})
//		if got := s.Entity("@user-42.name"); got != `"Bob"` {
//			t.Error(got)
//		}
//		s.Verify(t)
//	}
//
// [Start] is for tests. It stops everything when the test ends and leaves no
// goroutine behind, and tests with systems of their own run in parallel. [Open]
// starts the same for a program that has no testing.TB: an example, a TestMain.
//
// # Custom types
//
// [WithType] registers a type with the schema of its params and a handler in Go.
// [WithPolicy] sets any rule that an operator can set.
//
// # Faults
//
// [Local.Kill] cuts a role off as the death of its process would, and
// [Local.Restart] starts it again. [System.Verify] recomputes every decision and
// every entity from the journal and fails the test for each violation, so that a
// test with faults in it needs no expectations about the order of things.
//
// # Time
//
// In a [Bubble] time is fake: a lease of half a minute, a backoff of five seconds
// and a window of an hour pass in milliseconds. See there for what does not work.
package optest
