package readme

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// natsMain stands in for the nats program. It knows the few commands and flags
// that the pages use, sends the same messages, and fails where a reader would
// not get what the page promises.
func natsMain() {
	if err := natsRun(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
}

// natsLine is a command line taken apart.
type natsLine struct {
	words     []string
	headers   nats.Header
	command   string
	jetstream bool
	raw       bool
	timeout   time.Duration
}

func natsParse(args []string) (l natsLine, err error) {
	l.headers, l.timeout = nats.Header{}, 5*time.Second
	for i := 0; i < len(args); i++ {
		value := func() string {
			if i++; i < len(args) {
				return args[i]
			}
			err = errors.New("a flag has no value")
			return ""
		}
		switch a := args[i]; {
		case a == "-J":
			l.jetstream = true
		case a == "--raw":
			l.raw = true
		case a == "--command":
			l.command = value()
		case a == "-H":
			k, v, _ := strings.Cut(value(), ":")
			l.headers.Add(k, v)
		case a == "--timeout":
			if l.timeout, err = time.ParseDuration(value()); err != nil {
				return l, err
			}
		case strings.HasPrefix(a, "-"):
			return l, fmt.Errorf("this stand-in does not know %s", a)
		default:
			l.words = append(l.words, a)
		}
	}
	return l, err
}

func natsRun(args []string, out io.Writer) error {
	l, err := natsParse(args)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer nc.Close()
	w := append(l.words, "", "", "", "", "")
	switch {
	case w[0] == "pub" && l.jetstream:
		ack, err := natsAck(nc, &l, w[1], w[2])
		fmt.Fprintln(out, ack)
		return err
	case w[0] == "req":
		m, err := natsRequest(nc, &l, w[1], w[2])
		if err == nil {
			fmt.Fprintf(out, "%s\n", m.Data)
		}
		return err
	case w[0] == "sub":
		return natsSubscribe(nc, w[1])
	case w[0] == "reply":
		return natsReply(nc, w[1], l.command)
	case w[0] == "kv" && w[1] == "get":
		return natsGet(nc, &l, w[2], w[3], out)
	case w[0] == "kv" && w[1] == "put":
		_, err := natsAck(nc, &l, "$KV."+w[2]+"."+w[3], w[4])
		fmt.Fprintln(out, w[4])
		return err
	case w[0] == "micro" && w[1] == "ls":
		return natsServices(nc, out)
	}
	return fmt.Errorf("this stand-in does not know %q", l.words)
}

// natsRequest sends one request. The nats program reports an error of a service
// and succeeds; here it is an error.
func natsRequest(nc *nats.Conn, l *natsLine, subject, body string) (*nats.Msg, error) {
	m, err := nc.RequestMsg(&nats.Msg{Subject: subject, Data: []byte(body), Header: l.headers}, l.timeout)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if e := m.Header.Get("Nats-Service-Error"); e != "" {
		return nil, fmt.Errorf("%s: %s", subject, e)
	}
	return m, nil
}

func natsAck(nc *nats.Conn, l *natsLine, subject, body string) (string, error) {
	m, err := natsRequest(nc, l, subject, body)
	if err != nil {
		return "", err
	}
	var ack struct {
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Error  any    `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil || ack.Error != nil || ack.Seq == 0 {
		return "", fmt.Errorf("not acknowledged: %s", m.Data)
	}
	return fmt.Sprintf("Stored in Stream: %s Sequence: %d", ack.Stream, ack.Seq), nil
}

// natsSubscribe makes sure that the server takes the subscription, and that the
// subject is one on which events are told.
func natsSubscribe(nc *nats.Conn, subject string) error {
	if _, _, err := bus.ParseEvent(strings.ReplaceAll(strings.ReplaceAll(subject, "*", "x"), ">", "x")); err != nil {
		return err
	}
	if _, err := nc.SubscribeSync(subject); err != nil {
		return err
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	return nc.LastError()
}

// natsReply answers requests with what a command prints, until it is told to end.
func natsReply(nc *nats.Conn, subject, command string) error {
	if command == "" || strings.ContainsAny(command, " '\"{") {
		return fmt.Errorf("this stand-in cannot take the command %q apart", command)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	_, err := nc.QueueSubscribe(subject, "NATS-RPLY-22", func(m *nats.Msg) {
		cmd := exec.Command(command)
		cmd.Env = append(os.Environ(), "NATS_REQUEST_SUBJECT="+m.Subject, "NATS_REQUEST_BODY="+string(m.Data))
		out, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", command, err)
		}
		_ = m.Respond(out) // whoever asked asks again
	})
	if err == nil {
		<-end
	}
	return err
}

func natsGet(nc *nats.Conn, l *natsLine, bucket, key string, out io.Writer) error {
	if !l.raw {
		return errors.New("without --raw the output is for people")
	}
	m, err := natsRequest(nc, l, "$JS.API.STREAM.MSG.GET.KV_"+bucket, fmt.Sprintf(`{"last_by_subj":"$KV.%s.%s"}`, bucket, key))
	if err != nil {
		return err
	}
	var got struct {
		Message struct {
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &got); err != nil || got.Message.Data == nil {
		return fmt.Errorf("no value: %s", m.Data)
	}
	fmt.Fprintf(out, "%s\n", got.Message.Data)
	return nil
}

// natsServices asks who is there, and wants to hear all four roles.
func natsServices(nc *nats.Conn, out io.Writer) error {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return err
	}
	if err := nc.PublishRequest("$SRV.PING", sub.Subject, nil); err != nil {
		return err
	}
	missing := map[string]bool{"ops-submitter": true, "ops-resolver": true, "ops-executor": true, "ops-observer": true}
	for len(missing) > 0 {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			return fmt.Errorf("%d roles did not answer: %w", len(missing), err)
		}
		var s struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(m.Data, &s); err != nil {
			return err
		}
		delete(missing, s.Name)
		fmt.Fprintln(out, s.Name)
	}
	return nil
}

// curlMain stands in for curl: it fetches one page of the system under test,
// wherever that listens.
func curlMain() {
	if err := curlRun(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "curl:", err)
		os.Exit(1)
	}
}

func curlRun(args []string) error {
	url := ""
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, "http://"):
			url = a
		case a == "-s", a == "-f", a == "-sf":
		default:
			return fmt.Errorf("this stand-in does not know %s", a)
		}
	}
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	if host != "127.0.0.1:8080" {
		return fmt.Errorf("%q is not where a system listens by default", host)
	}
	r, err := http.Get("http://" + cmp.Or(os.Getenv(envHTTP), host) + "/" + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	_, err = io.Copy(os.Stdout, r.Body)
	return err
}
