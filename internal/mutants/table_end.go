package main

// endMutants are faults in attempts, retries and ends.
var endMutants = []mutant{
	{
		name: "zombie completion", wrong: "a result counts although another attempt has been granted since", test: life, says: "effects.no_result",
		file: attemptFile, old: `case e.attempt != c.attempt:`, new: `case false:`,
	},
	{
		name: "effect and completion in two steps", wrong: "the step that brings the effect does not complete the operation; a later one does", test: life, says: "log.unanswered",
		file: attemptFile, old: "\tm.release(e)\n\tif r.Failure == nil {\n",
		new: "\tif r.Failure == nil && !e.told.execution {\n\t\te.told.execution = true\n\t\treturn\n\t}\n\tm.release(e)\n\tif r.Failure == nil {\n",
	},
	{
		name: "completed twice", wrong: "one success is recorded two times", test: life, says: "life.terminal_twice",
		file: attemptFile, old: `		m.settle(e, chore{Kind: choreShare, Attempt: e.attempt})`,
		new: "\t\tm.emit(Effect{Succeeded: &Succeeded{OpID: r.OpID, Target: e.op.Target, Attempt: e.attempt, Input: index, Duration: r.Duration}})\n" +
			"\t\tm.settle(e, chore{Kind: choreShare, Attempt: e.attempt})",
	},
	{
		name: "a terminal record that changes", wrong: "the deadline of an operation that has ended rejects it once more", test: life, says: "op: no transition from",
		file: attemptFile, old: "\tm.disarm(&e.expiry)\n", new: "",
	},
	{
		name: "attempt bound off by one", wrong: "an operation is tried once more than its retries allow", test: life, says: "life.retry_bound",
		file: attemptFile, old: `	case e.retries >= e.op.Retries():`, new: `	case e.retries > e.op.Retries():`,
	},
	{
		name: "retry without jitter", wrong: "what failed together comes back together",
		test: test{pkg: "internal/arbiter", run: "^TestBackoffIsUniform$"}, says: "one a step: [chi-square is",
		file: "internal/arbiter/timer.go", old: `float64(mix(h.Sum64())>>11)/(1<<53)`, new: `0.5`,
	},
	{
		name: "backoff too long", wrong: "a backoff may last 1.4 times as long as it should", test: life, says: "life.backoff",
		file: "internal/retry/retry.go", old: `width = 0.4`, new: `width = 0.6`,
	},
	{
		name: "backoff does not grow", wrong: "every retry waits as long as the first", test: life, says: "life.backoff",
		file: "internal/arbiter/timer.go", old: `return retry.Delay(n,`, new: `return retry.Delay(0,`,
	},
	{
		name: "lost wake-up of a retry", wrong: "an operation never comes back from its backoff", test: life, says: "the world does not come to rest",
		file: attemptFile, old: `	m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: e.op.ID, entry: e})`, new: ``,
	},
	{
		name: "lost wake-up after take-over", wrong: "a machine restored from a snapshot forgets the backoffs",
		test: test{pkg: "internal/arbiter", run: "^TestRestoredMachineGoesOnTheSame$"}, says: ", restored before step ",
		file: "internal/arbiter/snapshot.go", old: `		m.arm(&e.wake, timer{at: e.due, kind: timerRetry, key: id, entry: e})`, new: ``,
	},
	{
		name: "a lease that never lapses", wrong: "the operation of an executor that fell silent executes for ever", test: life, says: "life.overdue",
		file: "internal/arbiter/machine.go", old: `m.lapse(t.entry)`, new: `_ = t.entry`,
	},
	{
		name: "lease beyond the deadline", wrong: "an attempt may run on after its operation's deadline", test: life, says: "life.lease",
		file: attemptFile, old: `if !e.expires.IsZero() && e.expires.Before(ends) {`, new: `if false {`,
	},
	{
		name: "deadline forgotten", wrong: "an operation waits on after its deadline or maximum age", test: life, says: "life.overdue",
		file: "internal/arbiter/machine.go", old: `m.expire(t.entry)`, new: `_ = t.entry`,
	},
	{
		name: "last error overwritten", wrong: "a rejection says that there are no retries left instead of what went wrong", test: life, says: "life.error",
		file: attemptFile, old: `m.reject(e, &Rejected{Reason: op.MaxRetries, Failure: r.Failure})`,
		new: `m.reject(e, &Rejected{Reason: op.MaxRetries, Failure: &op.Failure{Message: "max retries exceeded"}})`,
	},
	{
		name: "dedup forgotten", wrong: "an id that is submitted again is another operation", test: life, says: "life.accepted_twice",
		file: admitFile, old: `if s.Known || m.Remembers(id) {`, new: `if s.Known {`,
	},
	{
		name: "overload refuses too early", wrong: "an operation is turned away although there is room for it", test: life, says: "life.overloaded",
		file: admitFile, old: `len(m.ops) > p.MaxOpen:`, new: `len(m.ops) >= p.MaxOpen:`,
	},
	{
		name: "executing one superseded", wrong: "a newer operation of its kind rejects one that executes", test: life, says: "op: no transition from EXECUTING to REJECTED",
		file: admitFile, old: `case old.status != op.Pending || old == e:`, new: `case old == e:`,
	},
	{
		name: "coalesced told other outcome", wrong: "operations that wait for an identical one are staged again although it succeeded", test: life, says: "life.riders",
		file: attemptFile, old: `m.settle(e, chore{Kind: choreShare, Attempt: e.attempt})`, new: `m.settle(e, chore{Kind: chorePart})`,
	},
	{
		name: "coalesced with another change", wrong: "operations that ask for different things share one outcome", test: life, says: "resolution.coalesced",
		file: "internal/arbiter/coalesce.go", old: `bytes.Equal(a.Params, b.Params)`, new: `bytes.Equal(a.Params[:0], b.Params[:0])`,
	},
	{
		name: "descendants left behind", wrong: "a cancel takes only the operation itself", test: life, says: "causes.cascade_lost",
		file: cancelFile, old: "\tif c.Cascade {\n", new: "\tif false {\n",
	},
	{
		name: "follow-up lost", wrong: "the other side of a structural change is cancelled with its target", test: life, says: "causes.follow_up_lost",
		file: cancelFile, old: `if !e.followUp() && (c.All && e.op.Target == c.Target || c.Submitter != "" && e.op.Submitter == c.Submitter) {`,
		new: `if c.All && e.op.Target == c.Target || c.Submitter != "" && e.op.Submitter == c.Submitter {`,
	},
	{
		name: "time runs backwards", wrong: "a step is dated before the one that it follows",
		test: test{pkg: "internal/arbiter", run: "^TestTimeNeverRunsBackwards$"}, says: "the step is at ",
		file: "internal/arbiter/machine.go", old: "\tif s.At.Before(m.at) {\n", new: "\tif false {\n",
	},
}
