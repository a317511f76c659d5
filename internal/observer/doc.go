// Package observer is the role that watches. It reads the journal from its first
// step, keeps a projection of it in bounded memory and shows it as metrics, as
// health, as statistics and as lines for a person. It writes nothing that another
// role needs: any number of observers may run, or none.
//
// On the way it audits the journal with the auditor of `hierarchy verify`, in
// bounded memory: what breaks an invariant is counted, degrades the health and
// becomes the event system.invariant_violated.
//
// What is asked about one operation or one entity is not answered from the
// projection but read anew: [Status], [Explain], [EntityAt], [History] and
// [Lineage] need a [bus.Bus] and no running observer, so that the command line
// says the same as the API.
//
// # When it goes wrong
//
// An observer that lags shows old numbers and says so in its health. One that was
// killed reads the journal again and arrives at the same numbers. Errors of the
// functions that read are [*op.Error] where the request was wrong
// ([op.CodeNotFound], [op.CodeBadID], [op.CodeBadValue]) and plain errors where
// the server could not be asked.
package observer
