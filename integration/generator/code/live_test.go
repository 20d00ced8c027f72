package code

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
	outlierpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/outlier"
)

// crashing holds configs that made gRPC's outlier detection panic.
var crashing = []string{
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":null}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":null}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":null}]}}]}`,
	`{"loadBalancingPolicy":"outlier_detection_experimental"}`,
	`{"loadBalancingPolicy":"xds_cluster_impl_experimental"}`,
}

// lively holds configs with extreme values of the fields of every policy.
var lively = []string{
	`{}`,
	`{"loadBalancingPolicy":"etcd"}`,
	`{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"a"},"retryThrottling":{"maxTokens":1,"tokenRatio":0.1}}`,
	`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`,
	`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":10}}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{"minRingSize":1,"maxRingSize":8388608,"requestHashHeader":"etcd-affinity"}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"0.1s","baseEjectionTime":"9223372035s","maxEjectionTime":"9223372035s","maxEjectionPercent":100,` +
		`"successRateEjection":{"stdevFactor":4294967295,"enforcementPercentage":100,"minimumHosts":0,"requestVolume":0},` +
		`"failurePercentageEjection":{"threshold":0,"enforcementPercentage":100,"minimumHosts":0,"requestVolume":0},"childPolicy":[{"round_robin":{}}]}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":4294967295},` +
		`{"match":{"version":""},"weight":4294967295}],"preferZone":true,"drain":["a"],"childPolicy":[{"etcd_weighted":{}}]}}]}}]}`,
	`{"methodConfig":[{"name":[{}],"timeout":"0.000000001s","waitForReady":true,"maxRequestMessageBytes":0,"maxResponseMessageBytes":0,` +
		`"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.000000001s","maxBackoff":"9223372035s","backoffMultiplier":1e308,"retryableStatusCodes":["INTERNAL"]}}]}`,
}

// FuzzLive makes calls with each config that is a valid live config.
func FuzzLive(f *testing.F) {
	for _, text := range append(crashing, lively...) {
		f.Add(text)
	}

	live := newLive(f)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := serviceconfig.ParseLive(text); err != nil {
			return
		}

		if err := live.try(text); err != nil {
			t.Errorf("the accepted config %s: %v, want gRPC to accept it, and no panic", text, err)
		}
	})
}

// live is a server in memory, which connections reach at any address.
type live struct{ lis *bufconn.Listener }

func newLive(t testing.TB) live {
	s := grpc.NewServer()
	outlierpb.RegisterFailuresServer(s, outlierpb.UnimplementedFailuresServer{})
	lis := bufconn.Listen(1 << 16)
	ended := make(chan error)
	go func() { ended <- s.Serve(lis) }()

	t.Cleanup(func() {
		s.Stop()

		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	return live{lis}
}

// try puts a config in force and makes calls. It returns an error if gRPC
// rejects the config or a call reports a panic.
func (l live) try(text string) error {
	if _, err := grpccheck.Live(text); err != nil {
		return err
	}

	config, err := serviceconfig.ParseLive(text)
	if err != nil {
		return err
	}

	wrapped, err := serviceconfig.Wrap(grpccheck.Registered, config.JSON())
	if err != nil {
		return err
	}

	for _, text := range []string{config.JSON(), wrapped.JSON} {
		if err := l.call(text); err != nil {
			return err
		}
	}

	return nil
}

func (l live) call(config string) error {
	r := manual.NewBuilderWithScheme("live")
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return l.lis.DialContext(ctx)
	}

	conn, err := grpc.NewClient("live:///",
		grpc.WithResolvers(r),
		kit.Insecure,
		grpc.WithContextDialer(dial))
	if err != nil {
		return err
	}
	defer conn.Close()

	state := resolver.State{}
	for i := range 3 {
		state.Endpoints = append(state.Endpoints,
			resolver.Endpoint{Addresses: []resolver.Address{{Addr: strconv.Itoa(i)}}})
	}

	built := make(chan error, 1)
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
		state.ServiceConfig = cc.ParseServiceConfig(config)
		err := state.ServiceConfig.Err
		if err == nil {
			err = cc.UpdateState(state)
		}

		built <- err
	}

	conn.Connect()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	client := outlierpb.NewFailuresClient(conn)
	for range 3 {
		_, callErr := client.Get(ctx, new(emptypb.Empty))
		if callErr != nil && strings.Contains(status.Convert(callErr).Message(), "panic") {
			return callErr
		}
	}

	return <-built
}
