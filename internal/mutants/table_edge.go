package main

// edgeMutants are faults in what is let in, and in what its sender is told.
var edgeMutants = []mutant{
	{
		name: "an id with wildcards", wrong: "an id may hold what is a wildcard in a subject", test: refusals, says: "wildcard target: ",
		file: "pkg/op/operation.go", old: `c != '_' && c != '-' {`, new: `c != '_' && c != '-' && c != '>' {`,
	},
	{
		name: "a key twice", wrong: "of a key that is repeated, the last one counts", test: refusals, says: "repeated field: ",
		file: "pkg/op/codec_fields.go", old: `if seen&bit != 0 {`, new: `if false {`,
	},
	{
		name: "acknowledged and not stored", wrong: "a cancellation is taken for another message that has the same id, and dropped", test: inSubmitter("^TestAcknowledgedIsStored$"),
		says: "messages are stored of 6 that were acknowledged",
		file: "internal/submitter/cancel.go", old: `s.publish(ctx, subject, body, op.NewID(), nil, nil)`, new: `s.publish(ctx, subject, body, "a", nil, nil)`,
	},
	{
		name: "repeated as another", wrong: "a cancellation without an answer is sent again under another message id, and stored twice",
		test: inSubmitter("^TestUnknownOutcomeIsSettledByTheSameMessage$"), says: `sent "ops.cancel.user-1`,
		file: "internal/submitter/submitter.go", old: `s.try(ctx, subject, body, msgID, hdr)`, new: `s.try(ctx, subject, body, msgID+op.NewID(), hdr)`,
	},
	{
		name: "a crowd never waits", wrong: "a hot target takes the processors from all others", test: inResolver("^TestACrowdMakesRoom$"), says: "the second: 0s",
		file: "internal/resolver/pace.go", old: `mean > paceGoal:`, new: `mean > time.Hour:`,
	},
	{
		name: "everybody waits", wrong: "a hot target has the reports of all others wait", test: inResolver("^TestWhoseReportWaits$"), says: "a result of another target waits",
		file: "internal/resolver/report.go", old: `p.crowds.has(r.Target)`, new: `true`,
	},
	{
		name: "forgotten while in use", wrong: "the sequence of a head that each step writes is read again and again", test: test{pkg: "internal/bus", run: "^TestEmitterForgetsWhatIsNotUsed$"}, says: "reads, want 0",
		file: "internal/bus/emitter.go", old: `e.older, e.keys = e.keys, map[string]*viewKey{}`, new: `e.older, e.keys = nil, map[string]*viewKey{}`,
	},
}
