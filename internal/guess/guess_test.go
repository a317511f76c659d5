package guess_test

import (
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/guess"
)

func TestName(t *testing.T) {
	names := []string{"staging_window", "grace_period", "types"}
	for got, want := range map[string]string{
		"stagin_window": "staging_window", "Types": "types", "tpyes": "types", "graceperiod": "grace_period",
		"": "", "window": "", "grace": "", "typefaces": "", strings.Repeat("types", 20): "",
	} {
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if is := guess.Name(got, names); is != want {
			t.Errorf("%q: %q, want %q", got, is, want)
		}
	}
	if is := guess.Name("types", nil); is != "" {
		t.Errorf("of no names: %q", is)
	}
}
