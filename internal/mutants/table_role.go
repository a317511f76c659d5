package main

// roleMutants are faults in what executors do.
var roleMutants = []mutant{
	{
		name: "answer about something else", wrong: "an executor takes the answer to another attempt for its own", test: inExecutor("^TestAnswersAboutSomethingElseDoNotCount$"), says: "Repeats:2 ",
		file: "internal/executor/report.go", old: `ack.OpID != w.Operation.ID || ack.Attempt != w.Attempt {`, new: `false {`,
	},
	{
		name: "report given up", wrong: "a result is reported once, whether anybody answers or not", test: inExecutor("^TestRepeatsUntilAnOwnerAnswers$"), says: "never: a report without an owner is repeated",
		file: "internal/executor/report.go", old: `e.stats.Repeats.Add(1)`, new: `return false, false`,
	},
	{
		name: "handler outlives its lease", wrong: "a handler is stopped only after its lease has ended", test: inExecutor("^TestLease$"), says: "reported after",
		file: "internal/executor/hold.go", old: `h.deadline = h.ends.Add(-margin(lease))`, new: `h.deadline = h.ends.Add(margin(lease))`,
	},
	{
		name: "refused heartbeat ignored", wrong: "a handler works on although its attempt was taken away", test: inExecutor("^TestRefusedHeartbeat$"), says: "nothing came",
		file: "internal/executor/beat.go", old: "\t\th.cancel(ErrRevoked)\n", new: "",
	},
	{
		name: "a hung handler is prolonged", wrong: "the first heartbeat prolongs a handler that shows no sign of life", test: inExecutor("^TestClaim$"), says: "the attempt's time was over before its handler returned",
		file: "internal/executor/beat.go", old: `h.vital || last.Before(h.deadline) {`, new: `true {`,
	},
	{
		name: "too large a change reported", wrong: "a change that no step can hold is reported", test: inExecutor("^TestTooLargeAChange$"), says: "307201 bytes: <nil>",
		file: "internal/executor/attempt.go", old: `case len(raw) > MaxChange:`, new: `case false:`,
	},
}
