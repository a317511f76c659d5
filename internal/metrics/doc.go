// Package metrics holds every metric of Hierarchy in one table: its name, help,
// kind and labels stand in [Table] and nowhere else. A role asks a [Registry] for
// the small struct of its own metrics and never sees a name.
//
// Two rules hold for every row and are tested: no label is ever an id (of an
// operation, an entity or a decision), because each value of a label is a time
// series for ever; and units are base units, so seconds, bytes and ratios.
//
// A nil *Registry is a working one that nobody scrapes: tests and embedded uses
// need no special case.
package metrics
