package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // to decode the details of errors
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/schema"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// call is the call that the flags and arguments of the command describe.
type call struct {
	instance, image string
	headers         []string
	each            bool
	timeout         time.Duration
	transport       transport.Transport

	key             string // of the service, without the namespace
	method, request string
	header          metadata.MD
	options         []grpc.DialOption

	// from --schema; nil if each server's reflection is used
	given *schema.Schema
}

func newCall(a *app) *cobra.Command {
	c := call{request: "{}"}
	cmd := &cobra.Command{
		Use:   "call KEY METHOD [JSON]",
		Short: "Call a method of a service",
		Long: `call calls a method of the service at KEY with a request in JSON, by default {}; - reads it
from standard input. METHOD is package.Service/Method or, where only one service has it,
Service/Method or, but for gRPC's own services, Method. It may return a stream, and not
take one.

It calls one of the instances that clients call and that have the method, at random, over
TLS, and asks it by gRPC's reflection what the method takes and returns.`,
		Example: `  etcdrpc call acme/user GetUser '{"id": "7"}'
  etcdrpc call acme/user acme.user.v1.Cache/Flush --each --plaintext`,
		Args:              keyArgs(cobra.RangeArgs(2, 3)),
		ValidArgsFunction: a.completion((*inventory.Service).Methods),
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			c.key = args[0]
			c.method = args[1]

			if len(args) == 3 {
				c.request = args[2]
			}

			if err := c.prepare(a); err != nil {
				return err
			}

			n, err := s.At(ctx, c.key)
			if err != nil {
				return err
			}

			chosen, err := c.choose(n.Services[0])
			if err != nil {
				return fmt.Errorf("call %s of %q: %w", c.method, s.Full(c.key), err)
			}

			if c.each {
				return c.callEach(ctx, chosen, a.out, a.notes)
			}

			return c.callOne(ctx, n, &chosen[0], a.out, a.notes)
		}),
	}

	flags := cmd.Flags()
	flags.StringVar(&c.instance, "instance", "",
		"call the instance with this `id` or address, be it drained or not")
	flags.BoolVar(&c.each, "each", false,
		"call each instance that has the method, drained ones too, one after the other, and write each response on a line that names the instance")
	flags.StringVar(&c.image, "schema", "",
		"take the descriptors from this `file`, an image as buf build -o or protoc --descriptor_set_out writes it")
	flags.StringArrayVarP(&c.headers, "header", "H", nil,
		"`'name: value'` to send; may be repeated")
	flags.DurationVar(&c.timeout, "timeout", 10*time.Second,
		"how long the call of an instance may take")
	flags.BoolVar(&c.transport.Plaintext, "plaintext", false, "call without TLS")
	c.transport.AddTo(flags)
	cmd.MarkFlagsMutuallyExclusive("each", "instance")

	return cmd
}

// prepare does the work that needs neither etcd nor the service.
func (c *call) prepare(a *app) (err error) {
	c.header = make(metadata.MD)

	for _, line := range c.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usage.Mistakef("--header: %q is not 'name: value'", line)
		}

		c.header.Append(strings.TrimSpace(name), strings.TrimSpace(value))
	}

	c.options, err = c.transport.Options(c.key, a.dial)
	if err != nil {
		return usage.Mistake(err)
	}

	if c.image != "" {
		raw, err := os.ReadFile(c.image)
		if err == nil {
			c.given, err = schema.Read(raw)
		}

		if err != nil {
			return fmt.Errorf("--schema %s: %w", c.image, err)
		}
	}

	if c.request == "-" {
		text, err := io.ReadAll(a.stdin)
		if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}

		c.request = string(text)
	}

	return nil
}

// choose returns the instances to call: the instance of --instance, all
// instances with --each, or a random one that clients call. If an instance may
// have the method, choose omits instances that publish only other methods.
func (c *call) choose(s *inventory.Service) ([]inventory.Instance, error) {
	if c.instance != "" {
		i, err := s.Finder()(c.instance)
		if err != nil {
			return nil, fmt.Errorf("--instance %s: %w", c.instance, err)
		}

		return []inventory.Instance{*i}, nil
	}

	all := slices.DeleteFunc(s.Merged().Instances, func(i inventory.Instance) bool {
		return !c.each && i.State != inventory.Registered
	})

	if len(all) == 0 {
		return nil, errors.New("no instance that clients call is registered: see " +
			s.Command("ls"))
	}

	isNamed := func(full string) bool { return schema.Named(full, c.method) }
	lacks := func(i inventory.Instance) bool {
		methods := (&inventory.Service{Instances: []inventory.Instance{i}}).Methods()
		return len(methods) > 0 && !slices.ContainsFunc(methods, isNamed)
	}

	able := slices.DeleteFunc(slices.Clone(all), lacks)
	if len(able) > 0 { // otherwise a server explains the failure
		all = able
	}

	if c.each {
		return all, nil
	}

	n := rand.IntN(len(all))

	return all[n : n+1], nil
}

// callOne calls an instance. It writes the responses and, if the call fails,
// the details of the error.
func (c *call) callOne(
	ctx context.Context,
	n *store.Snapshot,
	i *inventory.Instance,
	out, notes io.Writer,
) error {
	if c.instance == "" {
		output.Once(notes)(n.Note)
		output.Sayf(notes, "Calling %s.\n", i.Instance)
	}

	err := c.at(ctx, i.Addr, func(response json.RawMessage) error {
		return output.WriteJSON(out, response)
	})
	if err == nil || ctx.Err() != nil || errors.As(err, new(usage.Error)) {
		return err
	}

	output.Sayf(notes, "etcdrpc: call %s of %q at %s: %s\n",
		c.method, n.Services[0].Namespace+c.key, i.Addr, failure(err))

	for _, detail := range status.Convert(err).Proto().GetDetails() {
		text, err := protojson.Marshal(detail)
		if err != nil { // the type of the detail is unknown
			text = strconv.AppendQuote(nil, detail.TypeUrl)
		}

		if err := output.WriteJSON(notes, json.RawMessage(text)); err != nil {
			return err
		}
	}

	return errFound
}

// eachJSON is a line of the output of --each.
type eachJSON struct {
	Instance string          `json:"instance"`
	Addr     string          `json:"addr"`
	Response json.RawMessage `json:"response,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// callEach calls instances one after the other, and writes a line for each
// response and each error.
func (c *call) callEach(
	ctx context.Context,
	all []inventory.Instance,
	out, notes io.Writer,
) error {
	failed := 0
	for _, i := range all {
		line := eachJSON{Instance: i.Instance, Addr: i.Addr}

		err := c.at(ctx, i.Addr, func(response json.RawMessage) error {
			line.Response = response
			return output.WriteJSONLine(out, line)
		})
		if ctx.Err() != nil || errors.As(err, new(usage.Error)) {
			return err
		}

		if err != nil {
			failed++
			line.Response = nil
			line.Error = failure(err)

			if err := output.WriteJSONLine(out, line); err != nil {
				return err
			}
		}
	}

	if failed == 0 {
		return nil
	}

	output.Sayf(notes, "%d of %s failed.\n", failed, output.Counted(len(all), "instance"))

	return errFound
}

// at calls the method at an address, and passes each response to show as JSON.
func (c *call) at(
	ctx context.Context,
	addr string,
	show func(json.RawMessage) error,
) error {
	ctx = metadata.NewOutgoingContext(ctx, c.header)
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()

	conn, err := grpc.NewClient("passthrough:///"+addr, c.options...)
	if err != nil {
		return err
	}
	defer conn.Close()

	known, method, err := c.find(ctx, conn)
	if err != nil {
		return err
	}

	if method.IsStreamingClient() {
		return fmt.Errorf("the method takes a stream of requests, which etcdrpc cannot send: use grpcurl %s-d @ %s %s",
			c.transport.Grpcurl(c.key), output.Shell(addr), schema.Path(method))
	}

	types := dynamicpb.NewTypes(known.Files)
	request := dynamicpb.NewMessage(method.Input())
	parser := protojson.UnmarshalOptions{Resolver: types}

	err = parser.Unmarshal([]byte(c.request), request)
	if err != nil {
		return usage.Mistakef("the request is not a valid %s: %w",
			method.Input().FullName(), err)
	}

	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
		"/"+schema.Path(method))
	if err != nil {
		return err
	}

	err = stream.SendMsg(request)
	if err != nil && !errors.Is(err, io.EOF) { // RecvMsg returns the cause
		return err
	}

	if err := stream.CloseSend(); err != nil {
		return err
	}

	for {
		response := dynamicpb.NewMessage(method.Output())
		err := stream.RecvMsg(response)
		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return err
		}

		text, err := protojson.MarshalOptions{Resolver: types}.Marshal(response)
		if err != nil {
			return fmt.Errorf("show the response: %w", err)
		}

		if err := show(text); err != nil {
			return err
		}
	}
}

// find returns the method, and the schema that describes it.
func (c *call) find(
	ctx context.Context,
	conn *grpc.ClientConn,
) (known *schema.Schema, method protoreflect.MethodDescriptor, err error) {
	known = c.given
	if known == nil {
		known, err = schema.Reflect(ctx, conn, c.method)
		if err != nil {
			return nil, nil, err
		}
	}

	method, err = known.Find(c.method)

	return known, method, err
}

// failure describes the failure of a call, and a likely remedy.
func failure(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}

	text := st.Code().String() + ": " + st.Message()
	if st.Code() == codes.Unavailable {
		text += transport.Hint(st.Message(), "leave out --plaintext",
			"--plaintext calls it without")
	}

	return text
}
