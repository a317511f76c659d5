package main

// machineMutants are faults in who wins and what becomes of the others.
var machineMutants = []mutant{
	{
		name: "flipped winner", wrong: "the runner-up is promoted instead of the best", test: life, says: "resolution.winner_not_best",
		file: resolveFile, old: `if plantedFault && len(contenders) > 1 {`, new: `if len(contenders) > 1 {`,
	},
	{
		name: "tie to the later", wrong: "of two equal operations the later one wins", test: life, says: "resolution.winner_not_best",
		file: stagingFile,
		old:  "\tif a.place.Before(b.place) {\n\t\treturn -1\n\t}\n\tif b.place.Before(a.place) {\n\t\treturn 1\n",
		new:  "\tif a.place.Before(b.place) {\n\t\treturn 1\n\t}\n\tif b.place.Before(a.place) {\n\t\treturn -1\n",
	},
	{
		name: "client clock as tie-break", wrong: "of two equal operations the one wins that its client says is older",
		test: test{pkg: "internal/arbiter", run: "^TestAClientsClockDecidesNothing$"}, says: "the later one in the log won",
		file: stagingFile, old: "\tif a.place.Before(b.place) {\n\t\treturn -1\n\t}",
		new: "\tif c := cmp.Compare(string(a.op.CreatedAt), string(b.op.CreatedAt)); c != 0 {\n\t\treturn c\n\t}\n\tif a.place.Before(b.place) {\n\t\treturn -1\n\t}",
	},
	{
		name: "lost loser", wrong: "a loser leaves the staging area and is never told that it is rejected", test: life, says: "resolution.not_carried_out",
		file: resolveFile, old: `m.reject(e, &Rejected{Reason: why, Winner: d.Winner, Decision: d.ID})`, new: `_ = why`,
	},
	{
		name: "double decision", wrong: "a target is decided while an operation executes on it", test: life, says: "effects.overlap",
		file: "internal/arbiter/attempt.go", old: "\tt.executing = e\n", new: "",
	},
	{
		name: "inheritance ignored", wrong: "an operation does not get the priority of its ancestors", test: life, says: "resolution.effective",
		file: "internal/arbiter/kin.go", old: `if k.Priority > w.effective {`, new: `if false && k.Priority > w.effective {`,
	},
	{
		name: "unknown parent too early", wrong: "an ancestor counts as unknown for children that came after the search", test: life, says: "resolution.unasked_parent",
		file: "internal/arbiter/kin.go", old: `if e.asking && e.place.Seq <= k.Upto {`, new: `if e.asking {`,
	},
	{
		name: "preemption inside grace", wrong: "a stronger operation takes the place of one that has just begun", test: life, says: "life.grace",
		file: graceFile, old: `case ends.After(m.at):`, new: `case false && ends.After(m.at):`,
	},
	{
		name: "cancel inside grace", wrong: "a cancel stops an operation that has just begun", test: life, says: "life.grace",
		file: graceFile, old: `if !ends.After(m.at) {`, new: `if true {`,
	},
	{
		name: "preempted by an equal", wrong: "an operation yields to one that is not stronger", test: life, says: "resolution.preemption",
		file: graceFile, old: `best.effective <= e.effective {`, new: `best.effective < e.effective {`,
	},
	{
		name: "preempted once too often", wrong: "an operation is preempted more than max_preemptions times", test: life, says: "life.preemptions",
		file: graceFile, old: `e.preemptions < m.policy.MaxPreemptions`, new: `e.preemptions <= m.policy.MaxPreemptions`,
	},
	{
		name: "preemption costs a retry", wrong: "an operation that was preempted has a retry less", test: life, says: "life.retry_count",
		file: graceFile, old: "\te.preemptions++\n", new: "\te.preemptions++\n\te.retries++\n",
	},
	{
		name: "loser told the wrong winner", wrong: "a loser is told that it lost to itself", test: life, says: "resolution.reason",
		file: resolveFile, old: `&Rejected{Reason: why, Winner: d.Winner, Decision: d.ID}`, new: `&Rejected{Reason: why, Winner: e.op.ID, Decision: d.ID}`,
	},
	{
		name: "loser told the wrong reason", wrong: "one of lower priority is told that it came too late", test: life, says: "resolution.reason",
		file: resolveFile, old: `return op.LowerPriority`, new: `return op.LaterSubmission`,
	},
	{
		name: "staging bound off by one", wrong: "a staging area holds one more than the policy allows", test: life, says: "resolution.staging_bound",
		file: stagingFile, old: `len(t.staged) > m.policy.MaxStaged ||`, new: `len(t.staged) > m.policy.MaxStaged+1 ||`,
	},
	{
		name: "the best is shed", wrong: "a full staging area gives up its best instead of its last", test: life, says: "resolution.shed",
		file: stagingFile, old: `if last := t.staged[i]; !last.followUp() {`, new: `if last := t.staged[0]; !last.followUp() {`,
	},
	{
		name: "aging without record", wrong: "a boost decides and is not in the decision", test: life, says: "resolution.boost",
		file: resolveFile, old: `Asked: e.asked, Boost: e.boost,`, new: `Asked: e.asked,`,
	},
	{
		name: "paused is forgotten", wrong: "an operation of a paused type wins", test: life, says: "resolution.paused",
		file: stagingFile, old: `!e.followUp() && m.policy.Stops(e.op.Type, e.op.Target)`, new: `false`,
	},
	{
		name: "too many execute", wrong: "one more executes than the policy allows", test: life, says: "resolution.executing_bound",
		file: "internal/arbiter/machine.go", old: `m.running < m.policy.MaxExecuting`, new: `m.running <= m.policy.MaxExecuting`,
	},
	{
		name: "decided before the window closes", wrong: "the first contender wins at once", test: life, says: "resolution.window",
		file: stagingFile, old: `t.asking == 0 && !t.closes.After(m.at) &&`, new: `t.asking == 0 &&`,
	},
	{
		name: "lost wake-up of the window", wrong: "nobody looks when a staging window has passed", test: life, says: "resolution.undecided",
		file: stagingFile, old: `		m.arm(&t.window, timer{at: t.closes, kind: timerWindow, key: t.id, target: t})`, new: ``,
	},
}
