package failpoint

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

var (
	plain = New("test.plain", "nobody", "in a test")
	pair  = Around("test.pair", "nobody", "a test")
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"test.plain=kill":       "",
		" test.plain=stop@7 , ": "",
		"test.plain=panic%0.5,test.pair.after=error%100:9": "",
		"test.plain":                      "not name=action",
		"test.nothing=kill":               `no failpoint "test.nothing"`,
		"test.plain=maim":                 `no action "maim"`,
		"test.plain=":                     `no action ""`,
		"test.plain=error":                `no action "error" here`,
		"test.plain=kill@0":               "counted from 1",
		"test.plain=kill@x":               "counted from 1",
		"test.plain=kill%0":               "no percentage",
		"test.plain=kill%101":             "no percentage",
		"test.plain=kill%NaN":             "no percentage",
		"test.plain=kill%5:x":             "no seed",
		"test.plain=kill,test.plain=stop": "named twice",
	} {
		_, err := parse(text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// arm switches points on for one test.
func arm(t *testing.T, terms string) {
	t.Helper()
	t.Setenv(Env, terms)
	if err := Enable(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Setenv(Env, "")
		if err := Enable(); err != nil || On() {
			t.Errorf("something is still on: %v", err)
		}
	})
}

func TestTheNthHitCounts(t *testing.T) {
	if On() || pair.Before.Err() != nil {
		t.Fatal("a point acts without being asked")
	}
	arm(t, "test.pair.before=error@3")
	for n := 1; n <= 5; n++ {
		err := pair.Before.Err()
		if (err != nil) != (n == 3) || err != nil && !errors.Is(err, ErrInjected) {
			t.Errorf("hit %d: %v", n, err)
		}
	}
	if !On() || pair.After.Err() != nil {
		t.Error("another point acts, or none is said to be on")
	}
}

func TestChanceIsDrawnFromTheSeed(t *testing.T) {
	draw := func(terms string) (hits []bool) {
		arm(t, terms)
		for range 2000 {
			hits = append(hits, pair.After.Err() != nil)
		}
		return hits
	}
	count := func(hits []bool) (n int) {
		for _, h := range hits {
			if h {
				n++
			}
		}
		return n
	}
	a, b, c := draw("test.pair.after=error%10:5"), draw("test.pair.after=error%10:5"), draw("test.pair.after=error%10:6")
	same := func(x, y []bool) bool {
		for i := range x {
			if x[i] != y[i] {
				return false
			}
		}
		return true
	}
	if !same(a, b) || same(a, c) {
		t.Error("the draws do not follow from the seed")
	}
	if n := count(a); n < 140 || n > 260 {
		t.Errorf("%d of 2000 with a chance of 10 %%", n)
	}
}

func TestAnUnknownNameSwitchesNothingOn(t *testing.T) {
	t.Setenv(Env, "test.pair.before=error,test.nothing=kill")
	if err := Enable(); err == nil || !strings.Contains(err.Error(), Env) {
		t.Errorf("error %v", err)
	}
	if On() || pair.Before.Err() != nil {
		t.Error("half of it is on")
	}
}

func TestRegistry(t *testing.T) {
	found := 0
	for _, i := range All() {
		if strings.HasPrefix(i.Name, "test.") {
			found++
			if i.Role != "nobody" || i.When == "" || i.Fails != strings.HasPrefix(i.Name, "test.pair.") {
				t.Errorf("%+v", i)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d points of this test are listed, want 3", found)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name was given twice")
		}
	}()
	New("test.plain", "nobody", "again")
}

// TestTheProcessDies runs this very test in processes of its own, which die at
// the point.
func TestTheProcessDies(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		if err := Enable(); err != nil {
			t.Fatal(err)
		}
		plain.Hit()
		plain.Hit()
		os.Exit(0)
	}
	run := func(term string) (*exec.Cmd, *bytes.Buffer) {
		var errs bytes.Buffer
		c := exec.Command(os.Args[0], "-test.run=^TestTheProcessDies$")
		c.Env = append(os.Environ(), "FAILPOINT_CHILD=1", Env+"="+term)
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, &errs
	}
	c, errs := run("test.plain=kill@2")
	_ = c.Wait()
	if ws := c.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("kill: %v", c.ProcessState)
	}
	if !strings.Contains(errs.String(), "\n"+Mark+"test.plain kill\n") {
		t.Errorf("kill was not announced: %q", errs.String())
	}
	c, errs = run("test.plain=panic")
	_ = c.Wait()
	if c.ProcessState.ExitCode() != 2 || !strings.Contains(errs.String(), "failpoint: test.plain") {
		t.Errorf("panic: %v, %q", c.ProcessState, errs.String())
	}
	c, _ = run("test.plain=stop")
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(c.Process.Pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Errorf("stop: %v, error %v", ws, err)
	}
	if err := c.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it did not go on: %v", err)
	}
}

// BenchmarkInert is the price of a point that is not switched on.
func BenchmarkInert(b *testing.B) {
	for b.Loop() {
		if pair.Before.Err() != nil {
			b.Fatal("it acts")
		}
	}
}
