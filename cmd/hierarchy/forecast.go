package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/daemon"
	"github.com/hierarchy-bus/hierarchy/internal/submitter"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// whatIf asks what would become of an operation. Nothing is stored; the exit code
// is the one that submit --wait would most likely have.
func (a *app) whatIf(ctx context.Context, b *bus.Bus, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	f, err := submitter.New(submitter.Config{Bus: b}).WhatIf(ctx, body)
	if err != nil {
		return err
	}
	if err := a.print(f, func(w io.Writer) { showForecast(w, &f) }, string(f.Outlook)); err != nil {
		return err
	}
	switch f.Outlook {
	case op.WouldLose:
		return silently(daemon.ExitLost)
	case op.WouldRefuse:
		if f.Reason == "" {
			return nil // submitted before: submitting it again is done already
		}
		return silently(exitOf(op.Rejected, f.Reason))
	case op.WouldWin, op.WouldWait, op.WouldPreempt:
	}
	return nil
}

// outlooks are the beginnings of the sentences about each outlook.
var outlooks = map[op.Outlook]string{
	op.WouldWin: "would win", op.WouldWait: "would wait", op.WouldLose: "would lose",
	op.WouldRefuse: "would be refused", op.WouldPreempt: "would preempt",
}

func showForecast(w io.Writer, f *op.Forecast) {
	fmt.Fprintf(w, "%s on %s, with effective priority %s", outlooks[f.Outlook], f.Target, priority(f.Effective))
	if from := inherited(&f.Inheritance); from != "" {
		fmt.Fprintf(w, ", inherited from %s", from)
	}
	fmt.Fprintf(w, "\n%s\n", forecastText(f))
	if f.Asked > 0 {
		fmt.Fprintf(w, "the policy makes %s of the priority %s that it asks for\n", priority(f.Priority), priority(f.Asked))
	}
	if f.RetryAfterMS > 0 {
		fmt.Fprintf(w, "it is worth trying again after %s\n", time.Duration(f.RetryAfterMS)*time.Millisecond)
	}
	executing := "nothing executes there"
	if f.Executing != "" {
		executing = f.Executing + " executes there"
	}
	fmt.Fprintf(w, "now: %s staged, %s; policy revision %d; nothing was submitted\n", plural(f.Staged, "operation"), executing, f.PolicyRevision)
}

// forecastText says why.
func forecastText(f *op.Forecast) string {
	against := f.Against
	if f.AgainstEffective > 0 {
		against += " with " + priority(f.AgainstEffective)
	}
	switch f.Outlook {
	case op.WouldWin:
		if f.Against == "" {
			return "nobody contends with it"
		}
		return "against " + against
	case op.WouldPreempt:
		return "it would take the place of " + against + " once its grace is over"
	case op.WouldWait:
		if f.Verdict == op.VerdictWon {
			return "for " + against + " to end, and win then if nothing better comes"
		}
		return "behind " + against + ": " + becomes(f.Verdict)
	case op.WouldLose:
		return "against " + against + ": " + reasonOf(f.Reason)
	case op.WouldRefuse:
	}
	if f.Message != "" {
		return f.Message
	}
	return reasonOf(f.Reason)
}

// becomes says what a loser that does not end becomes.
func becomes(v op.Verdict) string {
	switch v {
	case op.VerdictQueued:
		return "queued for the next round"
	case op.VerdictRetry:
		return "sent back to come again after a delay"
	case op.VerdictCoalesced:
		return "it asks for the same and would share the outcome"
	case op.VerdictWon, op.VerdictRejected:
	}
	return string(v)
}

func reasonOf(r op.Reason) string { return fmt.Sprintf("%s %s", r, r.Code()) }
