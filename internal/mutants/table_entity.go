package main

// entityMutants are faults in what an operation does to its entity.
var entityMutants = []mutant{
	{
		name: "revision not bumped", wrong: "an effect leaves the revision of its entity as it was", test: life, says: "effects.revision",
		file: applyFile, old: "\te.Revision++\n", new: "",
	},
	{
		name: "forged version", wrong: "a new version is two above the last", test: life, says: "effects.version",
		file: applyFile, old: "\te.Version++\n", new: "\te.Version += 2\n",
	},
	{
		name: "version chain cut", wrong: "a version does not name the one before it", test: life, says: "effects.version",
		file: applyFile, old: "\te.PreviousVersionID = before.VersionID\n", new: "",
	},
	{
		name: "effect on another revision", wrong: "a change is applied to an entity that has moved on since",
		test: test{pkg: "internal/entity", run: "^TestApplyRefusesWhatCannotBeFolded$"}, says: "old base: <nil>, want",
		file: applyFile, old: `case c.Base != revision:`, new: `case false:`,
	},
	{
		name: "expected_version ignored", wrong: "an operation succeeds on another version than it expected",
		test: test{pkg: "internal/entity", run: "^TestStaleVersionNamesTheCurrentOne$"}, says: "got <nil>",
		file: computeFile, old: `if want >= 0 && uint64(want) == current || want == 0 && !alive(c.e) {`, new: `if true {`,
	},
	{
		name: "borrowed from another revision", wrong: "the provenance of a borrowed value names a revision that does not have it",
		test: test{pkg: "internal/entity", run: "^TestScripts$"}, says: `"version":2,"revision":3,"field":"hue"`,
		file: computeFile, old: `Revision: source.Revision, Field: p.from`, new: `Revision: source.Revision + 1, Field: p.from`,
	},
	{
		name: "modification keeps provenance", wrong: "a field that was set by hand still says where it was borrowed",
		test: test{pkg: "internal/entity", run: "^TestScripts$"}, says: `+  fields {"rooms":4} from {}`,
		file: applyFile, old: "\t\te.AttributeSource[name] = nil\n", new: "",
	},
}
