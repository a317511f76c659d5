package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hierarchy-bus/hierarchy/internal/failpoint"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// DefaultDrainTimeout is how long a role may take to finish after a signal.
// Orchestrators send SIGKILL after thirty seconds or more.
const DefaultDrainTimeout = 15 * time.Second

// Role describes a program with one role.
type Role struct {
	Name    string // "executor"; also the program's
	Short   string // one line: what it does
	Example string // command lines
	Version string // what the linker was told; "" reads it from the build

	// Flags adds the role's own flags. It may be nil.
	Flags func(*pflag.FlagSet)
	// Job reports, after the flags are read, that Run does one thing and ends,
	// with neither health nor a service. nil: never.
	Job func() bool
	// OwnService: the role registers its own NATS micro service.
	OwnService bool
	// Run does the work until ctx ends. Whatever it is doing then, it finishes
	// or hands back within the process' DrainTimeout. A role that ends before
	// its ctx does has failed.
	Run func(ctx context.Context, p *Process) error
}

// Main runs the program and ends the process.
func Main(r Role) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals...)
	os.Exit(Execute(context.Background(), r, Streams{os.Args[1:], os.Stdin, os.Stdout, os.Stderr}, signals, os.Exit))
}

// Streams are a program's arguments, without its name, and its streams. Data
// goes to Out, everything else to Err.
type Streams struct {
	Args []string
	In   io.Reader
	Out  io.Writer
	Err  io.Writer
}

// Execute is [Main] for a caller that wants the exit code. die is called when a
// second signal comes.
func Execute(ctx context.Context, r Role, io Streams, signals <-chan os.Signal, die func(code int)) int {
	begun := false
	cmd := r.command(signals, die, &begun)
	cmd.SetArgs(io.Args)
	cmd.SetIn(io.In)
	cmd.SetOut(io.Out)
	cmd.SetErr(io.Err)
	err := cmd.ExecuteContext(ctx)
	if err != nil && !begun { // what cobra itself says about a command line
		err = Exit(ExitUsage, err)
	}
	if err != nil {
		fmt.Fprintf(io.Err, "%s: %v\n", r.Name, err)
		if e := op.AsError(err); e != nil && e.Hint != "" {
			fmt.Fprintln(io.Err, "hint:", e.Hint)
		}
	}
	return ExitCode(err)
}

func (r *Role) command(signals <-chan os.Signal, die func(int), begun *bool) *cobra.Command {
	s := &settings{}
	build := BuildInfo(r.Version)
	cmd := &cobra.Command{
		Use: r.Name, Short: r.Short, Long: r.Short + "\n\n" + about, Example: r.Example,
		Version: build.Version, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*begun = true
			p, err := r.process(cmd, s, build)
			if err != nil {
				return err
			}
			return r.run(cmd.Context(), s, p, signals, die)
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&s.http, "http", os.Getenv("OPS_HTTP_ADDR"), "address for /livez, /readyz, /metrics and /version; empty: none (OPS_HTTP_ADDR)")
	f = cmd.Flags()
	s.connection.Flags(f)
	s.logging.flags(f)
	f.StringVar(&s.name, "name", os.Getenv("OPS_NAME"), "name of this process, unique among its kind (OPS_NAME; default: role, host and process id)")
	f.DurationVar(&s.drain, "drain-timeout", DefaultDrainTimeout, "how long a signal waits for what is under way")
	if r.Flags != nil {
		r.Flags(f)
	}
	cmd.AddCommand(&cobra.Command{
		Use: "healthcheck", Short: "Ask the process that listens on --http whether it is ready; exit code 0 or 1",
		Args: cobra.NoArgs, Example: "  OPS_HTTP_ADDR=:8080 " + r.Name + " healthcheck",
		RunE: func(cmd *cobra.Command, _ []string) error {
			*begun = true
			return probe(cmd.Context(), s.http)
		},
	})
	return cmd
}

const about = `Processes may be started in any order: one waits for its server and for ` + "`hierarchy setup`" + `.
SIGTERM ends it in good order, a second signal at once.`

func (r *Role) process(cmd *cobra.Command, s *settings, build Build) (*Process, error) {
	log, err := s.logging.logger(cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	if s.name == "" {
		s.name = defaultName(r.Name)
	}
	if !op.Token(s.name) {
		return nil, Exit(ExitUsage, fmt.Errorf("--name %q is not 1 to %d characters out of A-Z a-z 0-9 _ -", s.name, op.MaxToken))
	}
	if s.drain <= 0 {
		return nil, Exit(ExitUsage, errors.New("--drain-timeout must be positive"))
	}
	if err := failpoint.Enable(); err != nil {
		return nil, Exit(ExitUsage, err)
	}
	return &Process{
		Name: s.name, Version: build.Version, Logger: log, Metrics: metrics.New(build.Version),
		DrainTimeout: s.drain, In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), build: build,
	}, nil
}

// defaultName is unique among the processes of a host, and among containers.
func defaultName(role string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	end := fmt.Sprintf("-%d", os.Getpid())
	name := role + "-" + strings.Map(func(c rune) rune {
		if c < 128 && op.Token(string(c)) {
			return c
		}
		return '-'
	}, host)
	return name[:min(len(name), op.MaxToken-len(end))] + end
}
