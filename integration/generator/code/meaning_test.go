package code

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/serviceconfig"

	ours "github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// FuzzMeaning compares gRPC's reading of a live config with its reading of the config that clients
// pass on instead. If gRPC reads both, they must mean the same.
func FuzzMeaning(f *testing.F) {
	for _, text := range append(crashing, lively...) {
		f.Add(text)
	}
	for _, text := range []string{
		`{"loadBalancingConfig":[{"nope":{}},{"round_robin":{}}]}`, `{"loadBalancingConfig":[]}`, `{"methodConfig":[]}`,
		`{"methodConfig":[{"name":[{"service":"a.B","method":"C"},{"service":"a.B"}],"waitForReady":false,"maxRequestMessageBytes":1024,"maxResponseMessageBytes":"7"}]}`,
		`{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1234}}`, `{"healthCheckConfig":{}}`, `{"loadBalancingPolicy":"pick_first","methodConfig":[{"name":[{}],"timeout":"0.1s"}]}`,
		`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`, `{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"pick_first":{}}]}}]}`,
	} {
		f.Add(text)
	}
	parse := grpcParser(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ours.ParseLive(text)
		if err != nil {
			return
		}
		want := parse(text)
		got := parse(c.JSON())
		if got.Err != nil && !strings.Contains(got.Err.Error(), "no supported policies found") {
			t.Fatalf("%s is accepted as %s, which gRPC refuses: %v", text, c.JSON(), got.Err)
		}
		if want.Err != nil || got.Err != nil {
			return
		}
		if diff := cmp.Diff(want.Config, got.Config, inFull, exceptText); diff != "" {
			t.Fatalf("%s\nis accepted as\n%s\nwhich means something else to gRPC:\n%s", text, c.JSON(), diff)
		}
	})
}

var (
	inFull = cmp.Exporter(func(reflect.Type) bool { return true })
	// exceptText ignores the text that gRPC keeps with a config.
	exceptText = cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".rawJSONString" }, cmp.Ignore())
)

// grpcParser returns gRPC's own parser, which only a resolver can reach.
func grpcParser(tb testing.TB) func(text string) *serviceconfig.ParseResult {
	found := make(chan resolver.ClientConn, 1)
	r := manual.NewBuilderWithScheme("parser")
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) { found <- cc }
	conn, err := grpc.NewClient("parser:///", grpc.WithResolvers(r), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	conn.Connect()
	return (<-found).ParseServiceConfig
}
