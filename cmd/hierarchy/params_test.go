package main

import "testing"

func TestParamsAreOneObject(t *testing.T) {
	for params, good := range map[string]bool{`{"n":1}`: true, ` {} `: true, `{}}`: false, `{}]`: false, `{}{}`: false, `[]`: false, `{`: false} {
		o := submitOptions{params: params}
		if _, err := o.paramsOf("modify_field"); (err == nil) != good {
			t.Errorf("--params %q: %v", params, err)
		}
	}
}
