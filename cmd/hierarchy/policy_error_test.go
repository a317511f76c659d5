package main

import (
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TestPolicyMistake: a policy that is refused is told the field and what it takes,
// in the words of a policy.
func TestPolicyMistake(t *testing.T) {
	for policy, want := range map[string]string{
		`[]`:                         `the policy is an object, not an array`,
		`3`:                          `the policy is an object, not 3`,
		`{"bogus":1}`:                `a policy has no field "bogus"`,
		`{"types":"{"}`:              `types takes an object, not "{"; a value that is not valid JSON is taken as text`,
		"\n {\"types\": 4}":          `types takes an object, not 4`,
		`{"types":3}`:                `types takes an object, not 3`,
		`{"paused":[]}`:              `paused takes an object, not an array`,
		`{"aging":"soon"}`:           `aging takes an object, not "soon"`,
		`{"types":{"x":3}}`:          `types.x takes an object, not 3`,
		`{"types":{"x":{"pool":3}}}`: `types.x.pool takes a text, not 3`,
		`{"types":{"x":{"pol":3}}}`:  `types.x has no field "pol"; did you mean pool?`,
		`{"types":{"x":{"attempt_timeout":"x"}}}`:           `types.x.attempt_timeout takes a duration such as "10ms", not "x"`,
		`{"stagin_windw":"1ms"}`:                            `a policy has no field "stagin_windw"; did you mean staging_window?`,
		`{"staging_window":"soon"}`:                         `staging_window takes a duration such as "10ms", not "soon"`,
		`{"window_by_type":{"a":1}}`:                        `window_by_type.a takes a duration such as "10ms", not 1`,
		`{"default_max_retries":"x"}`:                       `default_max_retries takes a whole number, not "x"`,
		`{"default_max_retries":1.5}`:                       `default_max_retries takes a whole number, not 1.5`,
		`{"paused":{"types":["a",2]}}`:                      `paused.types.1 takes a text, not 2`,
		`{"grace_period":null,"types":{"x":null,"y":true}}`: `types.y takes an object, not true`,
		`{"bogus` + strings.Repeat("s", 80) + `":1}`:        `a policy has no field "bogus` + strings.Repeat("s", 75) + `"`,
		`{"preemption":"always"}`:                           `preemption "always" is neither never nor after_grace`,
		`{"preemption":3}`:                                  `preemption takes one of never, after_grace, not 3`,
		`{"types":{"x":{"on_conflict":true}}}`:              `types.x.on_conflict takes one of reject, queue, retry, supersede, coalesce, not true`,
		`{"max_staged_per_target":0}`:                       `max_staged_per_target must lie in 1..2000`,
	} {
		e := op.AsError(checkPolicy([]byte(policy), 1))
		if e == nil || e.Code != op.CodeBadPolicy || e.Hint == "" || e.Message != want {
			t.Errorf("%s:\n%v, want\n%s", policy, e, want)
		}
	}
}

// TestPolicyMistakeOfEveryField: no wrong type of any field shows what the program is
// made of.
func TestPolicyMistakeOfEveryField(t *testing.T) {
	for name := range schemaProperties(t) {
		for _, v := range []string{`"{"`, `3.5`, `[{}]`, `{"a":[]}`, `true`} {
			err := checkPolicy([]byte(`{"`+name+`":`+v+`}`), 1)
			if err != nil && (strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "json:")) {
				t.Errorf("%s=%s: %v", name, v, err)
			}
		}
	}
}

// TestPolicyNotAnObject: what cannot be a policy at all has a hint, too.
func TestPolicyNotAnObject(t *testing.T) {
	for _, text := range []string{`[]`, `3`, `{`} {
		_, err := parsePolicy([]byte(text), 0)
		if err == nil || !strings.HasPrefix(err.Error(), "the policy is not a JSON object") || hintFor(err, 2) == "" || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
