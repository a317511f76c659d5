// Package registry knows the operation types of a policy: the built-in ones and
// those that an operator registered, with the JSON Schema of their params. It is
// pure and immutable: a registry is built from one revision of the policy, and
// the next revision gets another.
//
// # What a schema may be
//
// A schema is JSON Schema 2020-12 without the parts that would make checking
// surprising or unbounded. Whoever submits an operation makes every resolver
// evaluate the schema, and whatever one of them cannot do, none can:
//
//   - A reference stays within its schema ("#/$defs/money") and nothing is ever
//     fetched. A schema that refers to itself is refused.
//   - A schema has at most [MaxSchemaBytes] bytes and, with every reference
//     written out, [MaxSchemaNodes] subschemas.
//   - A keyword that would not be checked is refused, whether it is misspelt or,
//     like format, only a note to the reader. A rule that is silently ignored is
//     worse than none.
//
// # What is refused
//
// [New] refuses a policy with the type and the place in its schema; [Registry.Check]
// refuses an operation with the place in its params, what was expected there, and
// what was found. The library that evaluates the schemas is the judge; the words
// are ours.
package registry
