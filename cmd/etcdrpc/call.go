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
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // to show them
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
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

type call struct {
	instance, image string
	headers         []string
	each            bool
	timeout         time.Duration
	transport       transport.Transport

	app             *app
	key             string // of the service, without the namespace
	method, request string
	header          metadata.MD
	given           *schema.Schema // nil: each server is asked
	options         []grpc.DialOption
	out             io.Writer
}

func newCall(a *app) *cobra.Command {
	c := call{app: a}
	cmd := &cobra.Command{
		Use:   "call KEY METHOD [JSON]",
		Short: "Call a method of a service",
		Long: `call calls a method of the service at KEY with a request in JSON, by default {}; - reads it
from standard input. METHOD is package.Service/Method or, where only one service has it,
Service/Method or Method. It may return a stream, and not take one.

It calls one of the instances that clients call, at random, over TLS, and asks it by gRPC's
reflection what the method takes and returns.`,
		Example: `  etcdrpc call acme/user GetUser '{"id": "7"}'
  etcdrpc call acme/user acme.user.v1.Cache/Flush --each --plaintext`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.RangeArgs(2, 3)(cmd, args); err != nil {
				return err
			}
			return endpoint.CheckKey(args[0])
		},
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error {
			c.key, c.method, c.request, c.out = args[0], args[1], "{}", cmd.OutOrStdout()
			if len(args) == 3 {
				c.request = args[2]
			}
			return c.run(ctx, s, cmd.ErrOrStderr())
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&c.instance, "instance", "", "call the instance with this `id` or address, be it drained or not")
	flags.BoolVar(&c.each, "each", false, "call each instance, drained ones too, one after the other, and write each response on a line that names the instance")
	flags.StringVar(&c.image, "schema", "", "take the descriptors from this `file`, an image as buf build -o or protoc --descriptor_set_out writes it")
	flags.StringArrayVarP(&c.headers, "header", "H", nil, "`'name: value'` to send; may be repeated")
	flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long the call of an instance may take")
	flags.BoolVar(&c.transport.Plaintext, "plaintext", false, "call without TLS")
	c.transport.AddTo(flags)
	return cmd
}

func (c *call) run(ctx context.Context, s *store.Store, notes io.Writer) error {
	if err := c.prepare(); err != nil {
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
	if c.instance == "" && !c.each {
		output.Once(notes)(n.Note)
		output.Sayf(notes, "Calling %s.\n", chosen[0].Instance)
	}
	failed := 0
	for _, i := range chosen {
		err := c.at(ctx, &i)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil || errors.As(err, new(usage.Error)):
			return err
		case c.each:
			err = output.WriteJSONLine(c.out, eachJSON{Instance: i.Instance, Addr: i.Addr, Error: failure(err)})
		default:
			output.Sayf(notes, "etcdrpc: call %s of %q at %s: %s\n", c.method, s.Full(c.key), i.Addr, failure(err))
			err = showDetails(notes, err)
		}
		if failed++; err != nil {
			return err
		}
	}
	if failed == 0 {
		return nil
	}
	if c.each {
		output.Sayf(notes, "%d of %s failed.\n", failed, output.Counted(len(chosen), "instance"))
	}
	return errFound
}

// prepare does what needs neither etcd nor the service.
func (c *call) prepare() (err error) {
	if c.each && c.instance != "" {
		return usage.Mistake(errors.New("--each and --instance exclude each other"))
	}
	c.header = make(metadata.MD)
	for _, line := range c.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usage.Mistake(fmt.Errorf("--header: %q is not 'name: value'", line))
		}
		c.header.Append(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if c.options, err = c.transport.Options(c.key, c.app.dial); err != nil {
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
		text, err := io.ReadAll(c.app.stdin)
		if err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		c.request = string(text)
	}
	return nil
}

// choose returns the instances to call: one that clients call, the one that is named, or all that are not leaving.
func (c *call) choose(s *inventory.Service) ([]inventory.Instance, error) {
	if c.instance != "" {
		i, err := s.Find(c.instance)
		if err != nil {
			return nil, fmt.Errorf("--instance %s: %w", c.instance, err)
		}
		return []inventory.Instance{*i}, nil
	}
	all := slices.DeleteFunc(s.Merged().Instances, func(i inventory.Instance) bool { return !c.each && i.State != inventory.Registered })
	if len(all) == 0 {
		return nil, errors.New("clients call no instance of it: etcdrpc ls shows what is registered")
	}
	if c.each {
		return all, nil
	}
	n := rand.IntN(len(all))
	return all[n : n+1], nil
}

// at calls the method at an instance, and writes the responses.
func (c *call) at(ctx context.Context, i *inventory.Instance) error {
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, c.header), c.timeout)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+i.Addr, c.options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	known := c.given
	if known == nil {
		if known, err = schema.Reflect(ctx, conn, c.method); err != nil {
			return err
		}
	}
	method, err := known.Find(c.method)
	if err != nil {
		return err
	}
	if method.IsStreamingClient() {
		return fmt.Errorf("it takes a stream of requests, for which there is grpcurl: grpcurl %s-d @ %s %s", c.transport.Grpcurl(c.key), output.Shell(i.Addr), schema.Path(method))
	}
	types := dynamicpb.NewTypes(known.Files)
	request := dynamicpb.NewMessage(method.Input())
	if err := (protojson.UnmarshalOptions{Resolver: types}).Unmarshal([]byte(c.request), request); err != nil {
		return usage.Mistake(fmt.Errorf("the request is no %s: %w", method.Input().FullName(), err))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+schema.Path(method))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // which RecvMsg explains
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return c.receive(i, stream, method.Output(), types)
}

// receive writes the responses of an instance until the last.
func (c *call) receive(i *inventory.Instance, stream grpc.ClientStream, of protoreflect.MessageDescriptor, types *dynamicpb.Types) error {
	for {
		response := dynamicpb.NewMessage(of)
		if err := stream.RecvMsg(response); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		text, err := protojson.MarshalOptions{Resolver: types}.Marshal(response)
		if err != nil {
			return fmt.Errorf("show the response: %w", err)
		}
		if c.each {
			err = output.WriteJSONLine(c.out, eachJSON{Instance: i.Instance, Addr: i.Addr, Response: text})
		} else {
			err = output.WriteJSON(c.out, json.RawMessage(text))
		}
		if err != nil {
			return err
		}
	}
}

// eachJSON is a line of --each.
type eachJSON struct {
	Instance string          `json:"instance"`
	Addr     string          `json:"addr"`
	Response json.RawMessage `json:"response,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// failure says how a call failed, and what may help.
func failure(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	text := st.Code().String() + ": " + st.Message()
	if st.Code() == codes.Unavailable {
		text += transport.Hint(st.Message(), "leave out --plaintext", "--plaintext calls it without")
	}
	return text
}

// showDetails writes the details of an error, of those whose type is not known the type alone.
func showDetails(w io.Writer, err error) error {
	for _, detail := range status.Convert(err).Proto().GetDetails() {
		text, err := protojson.Marshal(detail)
		if err != nil {
			text = strconv.AppendQuote(nil, detail.GetTypeUrl())
		}
		if err := output.WriteJSON(w, json.RawMessage(text)); err != nil {
			return err
		}
	}
	return nil
}
