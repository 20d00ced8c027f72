package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// patience is how long an answer may take on a busy machine.
const patience = 20 * time.Second

// pair is the real etcd and the model of it, which are asked the same and must answer the same.
type pair struct {
	t           testing.TB
	real, model *side
	*script
	name  string           // who asks, "" without authentication
	alive []map[int64]bool // the watches of each stream that can be cancelled
}

// script is what has been asked.
type script struct {
	seed    uint64
	history []string       // in words, since the script began
	tally   map[string]int // how often each answer came, by kind, in all scripts

	now       int64 // the revision of the last answer
	compacted int64
	past      bool // a watch has begun in the past since the last settle
	alarmed   bool
	apart     time.Duration // at most between the starts of the two sides
}

func newPair(t testing.TB, real, model *side) *pair {
	p := &pair{t: t, real: real, model: model, script: newScript()}
	p.must(&pb.RangeRequest{Key: []byte("\x00"), CountOnly: true})
	return p
}

// startEtcd starts a cluster that says so when it ends its own process.
func startEtcd(t testing.TB, opts ...etcdtest.Option) *etcdtest.Cluster {
	loud := zap.NewProductionConfig()
	loud.Level = zap.NewAtomicLevelAt(zap.DPanicLevel)
	logger, err := loud.Build()
	if err != nil {
		t.Fatal(err)
	}
	return etcdtest.Start(t, append(opts, etcdtest.WithLogger(logger))...)
}

// dialReal connects to a member of the real cluster.
func dialReal(t testing.TB, cluster *etcdtest.Cluster, member int) *side {
	addr := strings.TrimPrefix(cluster.Member(member).Endpoint(), "http://")
	return newSide(t, "etcd", addr)
}

// dialModel starts a member of the model and connects to it.
func dialModel(t testing.TB, cluster *etcd.Cluster, member int) *side {
	return serveModel(t, cluster, member)()
}

// serveModel starts a member of the model and returns how to connect to it.
func serveModel(t testing.TB, cluster *etcd.Cluster, member int) func() *side {
	listener := bufconn.Listen(1 << 20)
	cluster.Serve(member, listener)
	return func() *side {
		return newSide(t, "model", "passthrough:///model", grpc.WithContextDialer(
			func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	}
}

func newScript() *script { return &script{tally: map[string]int{}} }

// count adds an answer to the tally.
func (s *script) count(req proto.Message, err error) {
	kind := fmt.Sprintf("%s: %s", req.ProtoReflect().Descriptor().Name(), rpctypes.ErrorDesc(err))
	s.tally[kind]++
}

// summary is the tally in words.
func (s *script) summary() string {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(s.tally)) {
		fmt.Fprintf(&b, "\n%7d %s", s.tally[kind], kind)
	}
	return b.String()
}

// side is one of a pair, behind the services that etcd's client calls.
type side struct {
	t     testing.TB
	name  string
	ctx   context.Context // ends with the test
	token string          // who asks, "" without authentication

	issued string // the last token that was given

	conn *grpc.ClientConn

	keepalive pb.Lease_LeaseKeepAliveClient // nil until used, and after an error
	leases    leases
	streams   []*stream
	probe     *stream
}

func newSide(t testing.TB, name, target string, opts ...grpc.DialOption) *side {
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		conn.Close()
	})
	return &side{t: t, name: name, ctx: ctx, conn: conn, leases: newLeases()}
}

// fork is the same side with streams of its own.
func (s *side) fork() *side {
	other := *s
	other.keepalive, other.streams, other.probe = nil, nil, nil
	return &other
}

// as is the side to who has a token.
func (s *side) as(token string) *side {
	other := s.fork()
	other.token = token
	return other
}

// outgoing is ctx with who asks.
func (s *side) outgoing(ctx context.Context) context.Context {
	if s.token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, s.token)
}

// call asks, with leases by the script's numbers.
func (s *side) call(req proto.Message) answer {
	ctx, cancel := context.WithTimeout(s.outgoing(s.ctx), patience)
	defer cancel()
	req = s.leases.resolve(req)
	msg, err := s.send(ctx, req)
	if err != nil {
		return answer{err: err}
	}
	if grant, ok := msg.(*pb.LeaseGrantResponse); ok && req.(*pb.LeaseGrantRequest).ID == 0 {
		s.leases.add(grant.ID)
	}
	if login, ok := msg.(*pb.AuthenticateResponse); ok {
		s.issued = login.Token
	}
	return answer{msg: s.leases.normal(msg)}
}

// methods are those of the services by the names of what is asked, without "Request".
var methods = map[string]string{
	"Range": "KV/Range", "Put": "KV/Put", "DeleteRange": "KV/DeleteRange", "Txn": "KV/Txn", "Compaction": "KV/Compact",
	"LeaseGrant": "Lease/LeaseGrant", "LeaseRevoke": "Lease/LeaseRevoke", "LeaseTimeToLive": "Lease/LeaseTimeToLive",
	"LeaseLeases": "Lease/LeaseLeases", "Alarm": "Maintenance/Alarm", "Authenticate": "Auth/Authenticate",
}

func (s *side) send(ctx context.Context, req proto.Message) (proto.Message, error) {
	if renewal, ok := req.(*pb.LeaseKeepAliveRequest); ok {
		return s.renew(renewal)
	}
	name := strings.TrimSuffix(string(req.ProtoReflect().Descriptor().Name()), "Request")
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("etcdserverpb." + name + "Response"))
	if err != nil {
		panic(err)
	}
	resp := t.New().Interface()
	if err := s.conn.Invoke(ctx, "/etcdserverpb."+methods[name], req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// must is call for what is not refused.
func (s *side) must(req proto.Message) proto.Message {
	s.t.Helper()
	a := s.call(req)
	if a.err != nil {
		s.t.Fatalf("%s: %s: %v", s.name, words(req), a.err)
	}
	return a.msg
}

// renew sends a keepalive on the stream that is open, and opens one where there is none.
func (s *side) renew(req *pb.LeaseKeepAliveRequest) (*pb.LeaseKeepAliveResponse, error) {
	if s.keepalive == nil {
		stream, err := pb.NewLeaseClient(s.conn).LeaseKeepAlive(s.outgoing(s.ctx))
		if err != nil {
			return nil, err
		}
		s.keepalive = stream
	}
	err := s.keepalive.Send(req)
	if err == nil || errors.Is(err, io.EOF) { // of a stream that has ended, Recv says why
		var resp *pb.LeaseKeepAliveResponse
		if resp, err = s.keepalive.Recv(); err == nil {
			return resp, nil
		}
	}
	s.keepalive = nil
	return nil, err
}

// call asks both and fails the test unless they answer alike. It returns what etcd answered.
func (p *pair) call(req proto.Message) answer {
	p.t.Helper()
	p.note(words(req))
	real, model := p.real.call(req), p.model.call(req)
	if status.Code(real.err) == codes.Unavailable { // its election timeout is 100 ms
		p.t.Skipf("the machine is too busy for etcd: %s: %v", words(req), real.err)
	}
	if !real.equal(model, p.apart) {
		p.differ(real.String(), model.String())
	}
	p.count(req, real.err)
	p.now = max(p.now, real.revision())
	if compaction, ok := req.(*pb.CompactionRequest); ok && real.err == nil {
		p.compacted = compaction.Revision
	}
	return real
}

// note adds to the history.
func (p *pair) note(what string) {
	if p.name != "" {
		what = p.name + ": " + what
	}
	p.history = append(p.history, what)
}

// must is call for what etcd does not refuse.
func (p *pair) must(req proto.Message) proto.Message {
	p.t.Helper()
	a := p.call(req)
	if a.err != nil {
		p.t.Fatalf("%s: %v", words(req), a.err)
	}
	return a.msg
}

// differ fails the test with what the two said to the last request.
func (p *pair) differ(real, model string) {
	p.t.Helper()
	last := len(p.history) - 1
	p.t.Fatalf("seed %d, step %d: %s\n  etcd:  %s\n  model: %s\nthe script so far:\n  %s",
		p.seed, last, p.history[last], real, model, strings.Join(p.history[:last], "\n  "))
}

// answer is what one side says to a request.
type answer struct {
	msg proto.Message // normalised
	err error
}

func (a answer) equal(b answer, apart time.Duration) bool {
	if a.err != nil || b.err != nil {
		return a.String() == b.String()
	}
	return equal(a.msg, b.msg, apart)
}

// revision is that of the header.
func (a answer) revision() int64 {
	if headed, ok := a.msg.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		return headed.GetHeader().GetRevision()
	}
	return 0
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error() // with its code
	}
	return words(a.msg)
}

// words prints a message on a line, cut where it is long.
func words(m proto.Message) string {
	const most = 900
	text := prototext.MarshalOptions{}.Format(m)
	if len(text) > most {
		text = fmt.Sprintf("%s... (%d bytes)", text[:most], len(text))
	}
	return fmt.Sprintf("%s{%s}", m.ProtoReflect().Descriptor().Name(), text)
}
