package main

// journalMutants are faults in the fence, the outputs and the take-over.
var journalMutants = []mutant{
	{
		name: "no fence", wrong: "a step is appended whatever stands before it", test: inBus("^TestJournalFence$"), says: "a refused step was stored",
		file: journalFile, old: "\t\tjetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expected, 10)},\n", new: "",
	},
	{
		name: "lost answer taken for deposed", wrong: "an append that was stored and whose answer was lost counts as another's", test: inBus("^TestJournalFence$"), says: "our own, answer lost",
		file: journalFile, old: `case m.header(HeaderStepID) == id:`, new: `case false:`,
	},
	{
		name: "deposed taken for committed", wrong: "a step that was refused counts as stored", test: inBus("^TestJournalFence$"), says: "stale: ",
		file: journalFile, old: `return 0, Deposed, nil`, new: `return m.Seq, Committed, nil`,
	},
	{
		name: "busy taken for deposed", wrong: "a writer gives up because another write is in flight", test: inBus("^TestJournalBusyIsNotDeposed$"), says: "deposed",
		file: journalFile, old: `		if code(err) == codeWrongSequence {`,
		new: "\t\tif code(err) == codeBusy {\n\t\t\treturn 0, Deposed, nil\n\t\t}\n\t\tif code(err) == codeWrongSequence {",
	},
	{
		name: "unknown outcome guessed", wrong: "an append that nobody answers counts as refused", test: inBus("^TestAppendWithoutAnswer$"), says: "deposed",
		file: journalFile, old: `		if code(err) == codeWrongSequence {`,
		new: "\t\tif code(err) == 0 {\n\t\t\treturn 0, Deposed, nil\n\t\t}\n\t\tif code(err) == codeWrongSequence {",
	},
	{
		name: "the fence is compacted away", wrong: "the last step of a partition is removed with its history", test: inBus("^TestJournalReadAfterCompaction$"), says: "compaction has removed the last entry",
		file: journalFile, old: `upTo = min(upTo, last.Seq-1)`, new: `upTo = min(upTo, last.Seq)`,
	},
	{
		name: "views go back", wrong: "a deposed owner that wakes up writes an old head over a new one", test: inBus("^TestViewsNeverGoBack$"), says: "a: 7, want 9",
		file: "internal/bus/emitter_ack.go", old: `if s.key.order >= s.order {`, new: `if false {`,
	},
	{
		name: "trimming past the cursor", wrong: "the intake loses a message that nobody has consumed", test: inBus("^TestTrimLeavesOthers$"), says: "partition 1: sequence ",
		file: "internal/bus/intake.go", old: `jetstream.WithPurgeSequence(upTo+1)`, new: `jetstream.WithPurgeSequence(upTo+2)`,
	},
	{
		name: "epoch stands still", wrong: "a new owner goes on in the epoch of the old one", test: inResolver("^TestTheJournalOfATakeOverIsClean$"), says: "log.epoch",
		file: takeoverFile, old: `Epoch: prev.Epoch + 1,`, new: `Epoch: max(1, prev.Epoch),`,
	},
	{
		name: "cursor goes back", wrong: "a step says that less is consumed than the one before it said", test: inResolver("^TestTheJournalOfATakeOverIsClean$"), says: "log.cursor",
		file: partitionFile, old: `At: now, Cursor: g.cursor, In: g.in,`, new: `At: now, Cursor: g.cursor - min(g.cursor, p.number%2), In: g.in,`,
	},
	{
		name: "lost output after take-over", wrong: "what the dead owner had committed and not told is never told", test: inResolver("^TestLostOutputsAreToldAgain$"), says: "record/op-",
		file: takeoverFile, old: `	return p.emitter.emit(ctx, out)`, new: "\t_ = out\n\treturn nil",
	},
	{
		name: "outputs before commit", wrong: "the world is told of a step before it is durable", test: inResolver("^TestWhatIsRefusedIsNotTold$"), says: "was told of a step that is not in the journal",
		file: partitionFile, old: "\tbegun := time.Now()\n\tseq, outcome, err :=",
		new: "\tif early, err := p.outputs(ctx, s, p.seq+1); err == nil {\n\t\tp.emitter.queue <- early\n\t}\n\tbegun := time.Now()\n\tseq, outcome, err :=",
	},
	{
		name: "answered before commit", wrong: "an executor hears that its result counts before that is durable", test: inResolver("^TestWhatIsRefusedIsNotTold$"), says: "was answered",
		file: partitionFile, old: "\tbegun := time.Now()\n\tseq, outcome, err :=", new: "\tp.answer(s, g)\n\tbegun := time.Now()\n\tseq, outcome, err :=",
	},
	{
		name: "another target's report counts", wrong: "a report that names another target than its operation's is taken untried", test: inResolver("^TestAReportOfAnotherTargetIsNotTaken$"), says: "nobody answers any more",
		file: "internal/resolver/prepare.go", old: "\tif v.Operation.Target != r.Target { // the machine goes by the attempt, and charges it with the mistake\n\t\tp.spoil(r, ",
		new: "\tif v.Operation.Target != r.Target {\n\t\treturn\n\t}\n\tif false {\n\t\tp.spoil(r, ",
	},
	{
		name: "a deposed owner goes on", wrong: "a resolver takes a refused step for a committed one", test: inResolver("^TestWhatIsRefusedIsNotTold$"), says: "was answered",
		file: partitionFile, old: "\tcase bus.Deposed:\n\t\tp.cfg", new: "\tcase bus.Deposed:\n\t\tbreak\n\tcase -1:\n\t\tp.cfg",
	},
	{
		name: "told before it can be read", wrong: "events go out before the heads and records they speak of", test: inResolver("^TestWhoWasToldCanRead$"), says: "cannot be read",
		file: "internal/resolver/emission.go",
		old:  "\t\tfunc(o *outputs) []*nats.Msg { return o.heads },\n\t\tfunc(o *outputs) []*nats.Msg { return o.views },\n\t\tfunc(o *outputs) []*nats.Msg { return o.events },\n",
		new:  "\t\tfunc(o *outputs) []*nats.Msg { return o.events },\n\t\tfunc(o *outputs) []*nats.Msg { return o.heads },\n\t\tfunc(o *outputs) []*nats.Msg { return o.views },\n",
	},
	{
		name: "follow-up never sent", wrong: "the other side of a structural change does not come", test: inResolver("^TestTheJournalOfATakeOverIsClean$"), says: "causes.follow_up",
		file: "internal/resolver/outputs.go", old: "\tt.out.events = append(t.out.events, m)\n", new: "",
	},
	{
		name: "stale read for CAS", wrong: "a step is decided on a head that is older than one read before", test: inResolver("^TestAnOlderHeadIsNotBelieved$"), says: "believed",
		file: "internal/resolver/heads.go", old: `if least := h.dropped[id]; least > 0 && (e == nil || e.Revision < least) {`, new: `if least := h.dropped[id]; false {`,
	},
	{
		name: "burst forgets parents", wrong: "what the directory has let go of counts as told", test: inResolver("^TestABurstLosesNoParents$"), says: "and it is not told yet",
		file: "internal/resolver/kinship.go", old: `return own.told() >= s.step[q]`, new: `return true`,
	},
	{
		name: "filter of ids forgets", wrong: "an id that was accepted long ago is another operation", test: inResolver("^TestSeenNeverForgets$"), says: "is forgotten",
		file: "internal/resolver/seen.go", old: `s.Bits[b/8] |= 1 << (b % 8)`, new: `s.Bits[b/8] = 1 << (b % 8)`,
	},
}
