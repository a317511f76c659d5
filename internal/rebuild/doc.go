// Package rebuild computes from the journal what the views have to hold, the
// heads of the entities, the records of the operations and the dead letters, and
// mends the views where they hold something else. It answers the original's
// rebuilding of its registry.
//
// [Fold] is pure: it replays every step through the machine and folds the
// changes. [Run] reads the journal, compares, and writes back what is missing or
// different. A value is only ever replaced by one that the journal leads to, and
// never one of a later step: a resolver that goes on meanwhile is not overtaken
// (see bus.Emitter). What a view holds and the journal does not lead to is named
// and left alone.
package rebuild
