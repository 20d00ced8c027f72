package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/invoke"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

type callOptions struct {
	data      string
	headers   []string
	instance  string
	from      steer.Caller
	each      bool
	parallel  int
	timeout   time.Duration
	transport invoke.Transport
	described invoke.Descriptors
}

func newCall(a *app) *cobra.Command {
	var opts callOptions
	cmd := &cobra.Command{
		Use:   "call KEY METHOD [JSON]",
		Short: "Call a method of a service",
		Long: `call calls a method of the service at KEY, with JSON in and JSON out. METHOD is
package.Service/Method or, where that is clear, Service/Method or Method.
JSON holds the requests, as --data does.

Without other flags it calls an instance that clients may call by the live policy, at random,
over TLS, and asks the server by gRPC's reflection what the method takes and returns.`,
		Example: `  etcdrpc call acme/user GetUser '{"id": "7"}'
  etcdrpc call acme/user acme.user.v1.Users/Import -d @users.json --instance 10.0.0.7:9000
  etcdrpc call acme/user Flush --each --plaintext`,
		Args:              callArgs,
		ValidArgsFunction: a.completeMethods,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			if len(args) > 2 {
				opts.data = args[2]
			}
			c, err := opts.prepare(ctx, a, args[0], args[1])
			if err != nil {
				return err
			}
			c.key, c.out, c.notes = s.Full(args[0]), cmd.OutOrStdout(), cmd.ErrOrStderr()
			found, _, err := s.Service(ctx, args[0])
			if found == nil {
				return err
			}
			if err == nil {
				err = s.Place(ctx, found)
			}
			const drained = "an instance that is drained may be called"
			note := s.Refused([]*survey.Service{found}, drained)
			if errors.Is(err, store.ErrDenied) {
				note = s.NoConfigs(store.ConfigOf(args[0]), drained)
			} else if err != nil {
				return err
			}
			if note != "" && opts.instance == "" {
				output.Sayf(c.notes, "%s\n", note)
			}
			return c.call(ctx, found)
		}),
	}
	opts.addTo(cmd, a)
	return cmd
}

// callArgs accepts a key, a method and, where --data does not give them, the requests.
func callArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.RangeArgs(2, 3)(cmd, args); err != nil {
		return err
	}
	if len(args) == 3 && cmd.Flags().Changed("data") {
		return errors.New("the requests are given twice: after METHOD, and by --data")
	}
	return endpoint.CheckKey(args[0])
}

func (o *callOptions) addTo(cmd *cobra.Command, a *app) {
	flags := cmd.Flags()
	flags.StringVarP(&o.data, "data", "d", "{}", "the requests as `JSON`, one value each; @FILE reads a file, - standard input")
	flags.StringArrayVarP(&o.headers, "header", "H", nil, "`'name: value'` of metadata to send; a value for a name in -bin is in base64; may be repeated")
	flags.StringVar(&o.instance, "instance", "", "call the instance with this `id` or address, whatever the live policy says")
	flags.StringVar(&o.from.Lane, "lane", "", "call an instance that clients call in this `lane`, and send it along")
	flags.BoolVar(&o.each, "each", false, "call each instance that is not drained, and write a line for each")
	flags.IntVar(&o.parallel, "parallel", 1, "how `many` instances --each calls at once")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long the call of an instance may take; 0: until it ends")
	flags.BoolVar(&o.transport.Plaintext, "plaintext", false, "call without TLS")
	o.transport.AddTo(flags, "the service")
	flags.StringArrayVar(&o.described.Protosets, "protoset", nil, "take the descriptors from this `file`, as protoc --descriptor_set_out writes it; may be repeated")
	flags.StringArrayVar(&o.described.Protos, "proto", nil, "take the descriptors from this proto `file`, of edition 2023 at most; may be repeated")
	flags.StringArrayVar(&o.described.ImportPaths, "import-path", nil, "look for --proto and its imports below this `directory`; may be repeated")
	complete(cmd.RegisterFlagCompletionFunc("instance", func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, noFiles
		}
		return a.completeInstances(cmd, args[:1], typed)
	}))
}

// completeMethods offers a key, and then the methods that its instances say they serve.
func (a *app) completeMethods(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, noFiles
	}
	return a.completeSecond(cmd, args, typed, (*survey.Service).Methods)
}

type call struct {
	*callOptions
	app        *app
	key, name  string      // the key has the namespace
	tls        *tls.Config // nil: plaintext
	header     metadata.MD
	given      *invoke.Schema // nil: the server is asked
	requests   invoke.Messages
	out, notes io.Writer
	mu         sync.Mutex // guards out
}

// prepare does what needs neither etcd nor the service.
func (o *callOptions) prepare(ctx context.Context, a *app, key, name string) (*call, error) {
	c := &call{callOptions: o, app: a, name: name}
	c.from.Method = name
	switch {
	case o.each && o.instance != "":
		return nil, usage.Mistake(errors.New("--each and --instance exclude each other"))
	case o.parallel < 1 || o.parallel > dialing.Most:
		return nil, usage.Mistake(fmt.Errorf("--parallel must be from 1 to %d", dialing.Most))
	case o.from.Lane != "" && !serviceconfig.ValidLane(o.from.Lane):
		return nil, usage.Mistake(fmt.Errorf("--lane: %.60q is not a lane: want %s", o.from.Lane, serviceconfig.WantLane))
	case o.timeout < 0:
		return nil, usage.Mistake(errors.New("--timeout must not be below zero"))
	}
	var err error
	if c.tls, err = o.transport.Check(key); err != nil {
		return nil, err
	}
	if c.header, err = parseHeaders(o.headers); err != nil {
		return nil, usage.Mistake(err)
	}
	if o.from.Lane != "" {
		c.header.Set(serviceconfig.LaneHeader, o.from.Lane)
	}
	if c.given, err = o.described.Schema(ctx); err != nil {
		return nil, err
	}
	c.requests, err = o.readData(a.stdin)
	return c, err
}

// readData returns the requests, those of standard input as they come.
func (o *callOptions) readData(stdin io.Reader) (invoke.Messages, error) {
	name, isFile := strings.CutPrefix(o.data, "@")
	switch {
	case o.data == "-":
		return invoke.ReadMessages(stdin), nil
	case isFile:
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the requests: %w", err)
		}
		return invoke.ReadMessages(bytes.NewReader(text)), nil
	}
	return invoke.ReadMessages(strings.NewReader(o.data)), nil
}

// parseHeaders makes metadata of lines such as "name: value".
func parseHeaders(lines []string) (metadata.MD, error) {
	md := metadata.MD{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		odd := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.", r) }
		if !ok || name == "" || strings.ContainsFunc(name, odd) || strings.HasPrefix(name, "grpc-") {
			return nil, fmt.Errorf("--header: %q: want 'name: value', with a name of letters, digits, -, _ and . that does not begin with grpc-", line)
		}
		if strings.HasSuffix(name, "-bin") {
			raw, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("--header: the value of %s is not base64: %w", name, err)
			}
			value = string(raw)
		} else if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf("--header: the value of %s has characters that a header cannot hold: use a name in -bin, and base64", name)
		}
		md.Append(name, value)
	}
	return md, nil
}

func (c *call) call(ctx context.Context, s *survey.Service) error {
	if c.each {
		return c.callEach(ctx, s)
	}
	candidates, err := c.candidates(s)
	if err != nil {
		return fmt.Errorf("call %s of %q: %w", c.name, c.key, err)
	}
	l, i, err := c.firstReached(ctx, candidates)
	if err != nil {
		return err
	}
	defer l.Close()
	failed, err := c.callOne(ctx, l, i, c.requests, func(response json.RawMessage) error {
		if c.app.output == output.FormatJSON {
			return output.WriteJSONLine(c.out, response)
		}
		return output.WriteJSON(c.out, response)
	})
	if err != nil || failed == nil {
		return err
	}
	output.Sayf(c.notes, "etcdrpc: call %s of %q at %s: %s: %s\n", c.name, c.key, i.Addr, failed.Code, failed.Message)
	for _, detail := range failed.Details {
		if err := output.WriteJSON(c.notes, detail); err != nil {
			return err
		}
	}
	return errFound
}

// candidates returns the instances of which the first that can be reached is called.
func (c *call) candidates(s *survey.Service) ([]survey.Instance, error) {
	if c.instance == "" {
		if c.from.Lane != "" && s.Config == nil {
			output.Sayf(c.notes, "No live policy says which instances are in the lane %s: any may be called. The lane goes with the call.\n", c.from.Lane)
		}
		return steer.Callees(s, c.from, rand.Float64)
	}
	i, err := s.Find(c.instance)
	if err != nil {
		return nil, fmt.Errorf("--instance %s: %w", c.instance, err)
	}
	return []survey.Instance{*i}, nil
}

// firstReached connects to the first instance that answers or, if none does, to the last, whose call then says why.
func (c *call) firstReached(ctx context.Context, candidates []survey.Instance) (*invoke.Link, *survey.Instance, error) {
	const most = 5
	i, others := &candidates[0], candidates[1:min(most, len(candidates))]
	for {
		l, err := c.transport.Connect(i.Addr, c.tls, c.app.dial)
		if err != nil {
			return nil, nil, fmt.Errorf("call %s of %q at %s: %w", c.name, c.key, i.Addr, err)
		}
		if len(others) == 0 || l.Reach(ctx) {
			return l, i, nil
		}
		l.Close()
		output.Sayf(c.notes, "%s cannot be reached: trying another instance.\n", i.Addr)
		i, others = &others[0], others[1:]
	}
}

// errInterrupted is what ends a call that the user ends, for what the service then says is not its own.
var errInterrupted = errors.New("interrupted")

// callOne calls the method at an instance. failed is the answer of an instance that refused, or could not be reached; err
// is of the command itself.
func (c *call) callOne(ctx context.Context, l *invoke.Link, i *survey.Instance, in invoke.Messages, out func(json.RawMessage) error) (failed *invoke.FailureJSON, err error) {
	calling, cancel := ctx, func() {}
	if c.timeout > 0 {
		calling, cancel = context.WithTimeout(ctx, c.timeout)
	}
	defer cancel()
	r, err := c.run(metadata.NewOutgoingContext(calling, c.header), l, in, out)
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	return c.outcome(r, l, i, err)
}

func (c *call) run(ctx context.Context, l *invoke.Link, in invoke.Messages, out func(json.RawMessage) error) (r *invoke.RPC, err error) {
	r = new(invoke.RPC)
	known := c.given
	if known == nil {
		if known, err = invoke.ReflectSchema(ctx, l.ClientConn); err != nil {
			return r, err
		}
	}
	r.Types = known.Types()
	if r.Method, err = known.Find(c.name); err != nil {
		return r, err
	}
	return r, r.Run(ctx, l.ClientConn, in, out)
}

// outcome separates what the service says from what is wrong with the command line or the output.
func (c *call) outcome(r *invoke.RPC, l *invoke.Link, i *survey.Instance, err error) (*invoke.FailureJSON, error) {
	switch _, told := status.FromError(err); {
	case err == nil:
		return nil, nil
	case errors.As(err, new(invoke.InputError)):
		return nil, usage.Mistake(err)
	case told:
		hint := l.Hint(&c.transport)
		if status.Code(err) == codes.DeadlineExceeded && hint == "" && c.timeout > 0 {
			hint = fmt.Sprintf("--timeout is %v", c.timeout)
		}
		return r.Failure(err, hint), nil
	}
	return nil, fmt.Errorf("call %s of %q at %s: %w", c.name, c.key, i.Addr, err)
}

// eachJSON is a line of --each.
type eachJSON struct {
	Instance string              `json:"instance"`
	Addr     string              `json:"addr"`
	Response json.RawMessage     `json:"response,omitempty"`
	Error    *invoke.FailureJSON `json:"error,omitempty"`
}

func (c *call) callEach(ctx context.Context, s *survey.Service) error {
	called, drained, err := steer.EveryCallee(s, c.name)
	if err != nil {
		return fmt.Errorf("call %s of %q: %w", c.name, c.key, err)
	}
	if len(drained) > 0 {
		output.Sayf(c.notes, "Drained, so left out: %s\n", output.SomeOf(drained))
	}
	var requests []json.RawMessage
	for {
		request, err := c.requests(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("call %s of %q: %w", c.name, c.key, errInterrupted)
		}
		if err != nil {
			return usage.Mistake(err)
		}
		requests = append(requests, request)
	}
	errs := make([]error, len(called))
	parallel.Each(len(called), c.parallel, func(n int) { errs[n] = c.callAs(ctx, &called[n], invoke.All(requests)) })
	failed := 0
	for _, err := range errs {
		switch {
		case errors.Is(err, errFound):
			failed++
		case err != nil:
			return err
		}
	}
	if failed > 0 {
		output.Sayf(c.notes, "%d of %s failed.\n", failed, output.Counted(len(called), "instance"))
		return errFound
	}
	return nil
}

// callAs calls one of several instances, and writes what it answers in lines that say its id.
func (c *call) callAs(ctx context.Context, i *survey.Instance, in invoke.Messages) error {
	answered := false
	line := eachJSON{Instance: i.Instance, Addr: i.Addr}
	l, err := c.transport.Connect(i.Addr, c.tls, c.app.dial)
	if err != nil {
		return fmt.Errorf("call %s of %q at %s: %w", c.name, c.key, i.Addr, err)
	}
	defer l.Close()
	failed, err := c.callOne(ctx, l, i, in, func(response json.RawMessage) error {
		answered, line.Response = true, response
		return c.writeLine(line)
	})
	line.Response = nil
	switch {
	case err != nil:
		if errors.As(err, new(usage.Error)) || ctx.Err() != nil {
			return err
		}
		failed = &invoke.FailureJSON{Code: "Unknown", Message: err.Error()}
	case failed == nil && answered:
		return nil
	}
	if line.Error = failed; failed == nil {
		return c.writeLine(line)
	}
	if err := c.writeLine(line); err != nil {
		return err
	}
	return errFound
}

func (c *call) writeLine(line eachJSON) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.app.output == output.FormatJSON:
		return output.WriteJSONLine(c.out, line)
	case line.Error != nil:
		return output.Writef(c.out, "%s %s: %s\n", line.Instance, line.Error.Code, line.Error.Message)
	case line.Response == nil:
		return output.Writef(c.out, "%s (no response)\n", line.Instance)
	}
	if err := output.Writef(c.out, "%s ", line.Instance); err != nil {
		return err
	}
	return output.WriteJSONLine(c.out, line.Response)
}
