package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"
)

// logging says how to log.
type logging struct {
	format string // auto, json or console
	level  string
}

func (l *logging) flags(f *pflag.FlagSet) {
	f.StringVar(&l.format, "log-format", env("OPS_LOG_FORMAT", "auto"), "json, console, or auto: console on a terminal (OPS_LOG_FORMAT)")
	f.StringVar(&l.level, "log-level", env("OPS_LOG_LEVEL", "info"), "debug, info, warn or error (OPS_LOG_LEVEL)")
}

// Times are in UTC with nanoseconds, so that the lines of several processes can
// be laid side by side. The library only knows this as a global.
func init() {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
}

// logger writes to w.
func (l *logging) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, Exit(ExitUsage, fmt.Errorf("--log-level %q is neither debug, info, warn nor error", l.level))
	}
	switch l.format {
	case "json":
	case "console":
		w = console(w)
	case "auto":
		if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
			w = console(w)
		}
	default:
		return nil, Exit(ExitUsage, fmt.Errorf("--log-format %q is neither json, console nor auto", l.format))
	}
	return slog.New(zerolog.NewSlogHandler(zerolog.New(w).Level(zlevel(level)).With().Timestamp().Logger())), nil
}

func console(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly + ".000", NoColor: os.Getenv("NO_COLOR") != ""}
}

func zlevel(l slog.Level) zerolog.Level {
	switch {
	case l <= slog.LevelDebug:
		return zerolog.DebugLevel
	case l <= slog.LevelInfo:
		return zerolog.InfoLevel
	case l <= slog.LevelWarn:
		return zerolog.WarnLevel
	}
	return zerolog.ErrorLevel
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
