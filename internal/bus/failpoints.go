package bus

import (
	"strings"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
)

// The roles that come by a point.
const (
	roleResolver  = "resolver"
	roleExecutor  = "executor"
	roleSubmitter = "submitter"
	roleOperator  = "operator"
	roleSetup     = "setup"
)

// Moments at which `hierarchy torture` ends or stops a process: before and after
// each write that somebody else will rely on, and after the arrival of what has to
// be dealt with. "After" is when the server has answered and our caller does not
// know it yet.
var (
	failAppend  = failpoint.Around("bus.journal.append", roleResolver, "a step, or a take-over, is appended to the journal")
	failIntake  = failpoint.New("bus.intake.take", roleResolver, "a message of the intake has arrived")
	failResult  = failpoint.New("bus.result.take", roleResolver, "a report or a heartbeat has arrived at the owner")
	failAnswer  = failpoint.Around("bus.result.answer", roleResolver, "the owner answers a report or a heartbeat")
	failSave    = failpoint.Around("bus.snapshot.put", roleResolver, "a snapshot is stored, which does not count yet")
	failPoint   = failpoint.Around("bus.snapshot.point", roleResolver, "the pointer is set to a snapshot, which counts from then on")
	failDrop    = failpoint.Around("bus.snapshot.drop", roleResolver, "the former snapshot is deleted")
	failTrim    = failpoint.Around("bus.intake.trim", roleResolver, "the intake is trimmed behind the cursor")
	failJoin    = failpoint.Around("bus.member.join", roleResolver, "a resolver takes its lease")
	failBeat    = failpoint.Around("bus.member.beat", roleResolver, "a resolver renews its lease")
	failLeave   = failpoint.Around("bus.member.leave", roleResolver, "a resolver gives its lease back")
	failRefuse  = failpoint.Around("bus.policy.refuse", roleResolver, "a policy that is not valid is said to be refused")
	failTell    = failpoint.Around("bus.event.publish", roleResolver, "an event without a step is told: a commit was refused")
	failWork    = failpoint.New("bus.work.take", roleExecutor, "granted work has arrived at an executor")
	failWorkAck = failpoint.Around("bus.work.ack", roleExecutor, "an executor acknowledges work")
	failReport  = failpoint.Around("bus.result.report", roleExecutor, "an executor reports a result, or a heartbeat, to the owner")
	failSubmit  = failpoint.Around("bus.submit.publish", roleSubmitter, "a submission is stored")
	failBulk    = failpoint.Around("bus.bulk.publish", roleSubmitter, "a bulk of submissions is stored")
	failCancel  = failpoint.Around("bus.cancel.publish", roleSubmitter, "a cancel is stored")
	failControl = failpoint.Around("bus.control.publish", roleSubmitter, "a cancel of all of a submitter is stored for one partition")
	failPolicy  = failpoint.Around("bus.policy.put", roleOperator, "a policy is stored")
	failSetup   = failpoint.Around("bus.setup.apply", roleSetup, "a stream or a consumer is created or updated")

	failEmitHead    = failpoint.Around("bus.emit.head", roleResolver, "the head of an entity is published")
	failEmitRecord  = failpoint.Around("bus.emit.record", roleResolver, "the record of an operation is published")
	failEmitDead    = failpoint.Around("bus.emit.dead", roleResolver, "a dead letter is published, or taken away")
	failEmitMark    = failpoint.Around("bus.emit.mark", roleResolver, "it is noted how far the outputs are published")
	failEmitWork    = failpoint.Around("bus.emit.work", roleResolver, "granted work is published")
	failEmitEvent   = failpoint.Around("bus.emit.event", roleResolver, "an event is published")
	failEmitFollow  = failpoint.Around("bus.emit.follow", roleResolver, "the other side of a structural change is submitted")
	failEmitControl = failpoint.Around("bus.emit.control", roleResolver, "another partition is asked to cancel descendants")
)

// route is which points a message passes, by the beginning of its subject. The
// first that fits counts.
type route struct {
	prefix string
	points failpoint.Pair
}

var publishRoutes = []route{
	{"ops.submit.", failSubmit},
	{"ops.bulk.", failBulk},
	{"ops.cancel.", failCancel},
	{"ops.control.", failControl},
	{"ops.event.", failTell},
	{kvSubject(bucketConfig, keyPolicyRefused), failRefuse},
	{policySubject, failPolicy},
	{kvSubject(bucketMarks, "snapshot."), failPoint},
	{kvSubject(bucketLeases, ""), failLeave},
}

var emitRoutes = []route{
	{"$KV." + bucketEntities + ".", failEmitHead},
	{"$KV." + bucketRecords + ".", failEmitRecord},
	{"$KV." + bucketDead + ".", failEmitDead},
	{"$KV." + bucketMarks + ".", failEmitMark},
	{"ops.work.", failEmitWork},
	{"ops.event.", failEmitEvent},
	{"ops.follow.", failEmitFollow},
	{"ops.control.", failEmitControl},
}

// pointsOf finds the points of a subject; without any switched on it does not
// look.
func pointsOf(routes []route, subject string) (p failpoint.Pair) {
	if !failpoint.On() {
		return p
	}
	for _, r := range routes {
		if strings.HasPrefix(subject, r.prefix) {
			return r.points
		}
	}
	return p
}

// around passes both points on the way through f: an error at the first one means
// that f is not called, and one at the second that nobody hears of its success.
func around[T any](p failpoint.Pair, f func() (T, error)) (T, error) {
	var none T
	if err := p.Before.Err(); err != nil {
		return none, err
	}
	v, err := f()
	if err != nil {
		return v, err
	}
	if err := p.After.Err(); err != nil {
		return none, err
	}
	return v, nil
}

// aroundErr is around for what has no result.
func aroundErr(p failpoint.Pair, f func() error) error {
	_, err := around(p, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
