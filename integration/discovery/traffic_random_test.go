package discovery

import (
	"flag"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

var (
	randomFor  = flag.Duration("random", 6*time.Second, "how long random live configs are put")
	randomSeed = flag.Uint64("random-seed", 0, "what random live configs are made from; 0 chooses")
)

// TestS1_RandomLiveConfigs puts random configs live, under several keys at once, against clients that
// link every policy and call all the time: each config is refused with a reason or in force, and the
// process neither spins nor grows.
func TestS1_RandomLiveConfigs(t *testing.T) {
	kit.Night(t)
	seed := *randomSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-random-seed %d", seed)
	f := newFleet(t, runtime.WithZone("x"))
	var servers []*backend
	for i := range 3 {
		servers = append(servers, f.listen(fmt.Sprintf("s%d", i)))
	}
	end := time.Now().Add(*randomFor)
	var keys sync.WaitGroup
	var mu sync.Mutex
	inForce, refused := 0, 0
	for n := range 8 {
		keys.Go(func() {
			took, not := f.randomly(rand.New(rand.NewPCG(seed, uint64(n))), fmt.Sprintf("random/%d", n), servers, end)
			mu.Lock()
			defer mu.Unlock()
			inForce, refused = inForce+took, refused+not
		})
	}
	peak := watchHeap(t, end)
	keys.Wait()
	if inForce == 0 || refused == 0 {
		t.Errorf("%d configs were in force and %d refused: want some of each", inForce, refused)
	}
	report.Count(t, "S1", "random live configs in force", inForce)
	report.Count(t, "S1", "random live configs refused", refused)
	report.Count(t, "S1", "MB of heap at the most", int(<-peak>>20))

	// At rest, with the last config of each key in force.
	before := cpuTime()
	<-time.After(time.Second)
	idle := cpuTime() - before
	report.Took(t, "S1", "CPU in a second of rest, 8 clients", idle)
	if idle > time.Second/2 {
		t.Errorf("%v of CPU in a second of rest", idle)
	}
}

// randomly puts random configs under a key until the end, and returns how many were in force and how
// many were refused.
func (f *fleet) randomly(random *rand.Rand, name string, servers []*backend, end time.Time) (inForce, refused int) {
	for i, s := range servers {
		value := fmt.Sprintf(`{"Addr":%q,"Metadata":{"version":"v%d","zone":"%c","weight":%d}}`, s.addr, i%2, 'x'+rune(i%2), 1+random.Uint32())
		if _, err := f.etcd.Admin().Put(kit.Bounded(f.t, soon), name+"/"+s.name, value); err != nil {
			f.t.Error(err)
			return
		}
	}
	desc := basic.Greeter_EtcdServiceDesc
	desc.Key = name
	registry := f.newRegistry(runtime.WithZone("x"))
	conn := f.clientTo(registry, desc)
	conn.Connect()
	for time.Now().Before(end) {
		config := randomConfig(random)
		ctx := kit.Bounded(f.t, soon)
		if _, err := f.etcd.Admin().Put(ctx, "_grpc_config/"+name, config); err != nil {
			continue // larger than etcd takes
		}
		before := f.statusOf(registry, name)
		verdict := ""
		for began := time.Now(); verdict == "" && time.Since(began) < soon; time.Sleep(5 * time.Millisecond) {
			switch now := f.statusOf(registry, name); {
			case now.ConfigErr != nil && (before.ConfigErr == nil || now.ConfigErr.Error() != before.ConfigErr.Error()):
				verdict = "refused"
			case now.ServiceConfig != before.ServiceConfig:
				verdict = "in force"
			case time.Since(began) > 1500*time.Millisecond:
				verdict = "as before" // it says the same as the one before, or is refused for the same reason
			}
		}
		switch verdict {
		case "refused":
			refused++
		case "in force":
			inForce++
		case "":
			f.t.Errorf("neither in force nor refused: %.300s", config)
		}
		for range 3 { // a call may fail: a policy may say so
			_, _ = call(runtime.WithAffinity(kit.Bounded(f.t, time.Second), "k"), conn)
		}
	}
	return inForce, refused
}

func (f *fleet) statusOf(registry *runtime.Registry, key string) runtime.KeyStatus {
	for _, k := range registry.Status().Keys {
		if k.Key == key {
			return k
		}
	}
	return runtime.KeyStatus{}
}

// randomConfig returns a config that is mostly right, and wrong in one place or the other.
func randomConfig(random *rand.Rand) string {
	one := func(values ...string) string { return values[random.IntN(len(values))] }
	seldom := func(wrong, right string) string {
		if random.IntN(12) == 0 {
			return wrong
		}
		return right
	}
	duration := func() string {
		return one(`"0s"`, `"-1s"`, `"0.000000001s"`, `"0.1s"`, `"1s"`, `"9223372036s"`, `"315576000000s"`, `"1e3s"`, `null`, `1`, `"10s"`, `"0.5s"`)
	}
	number := func() string {
		return one("0", "1", "2", "5", "100", "101", "-1", "4294967295", "4294967296", "1e99", "0.5", `"3"`, "null", "8388608")
	}
	var leaf, outlier func() string
	leaf = func() string {
		return one(
			`{"round_robin":{}}`, `{"pick_first":{"shuffleAddressList":true}}`, `{"etcd_weighted":{}}`,
			`{"least_request_experimental":{"choiceCount":`+number()+`}}`,
			`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
			`{"ring_hash_experimental":{"minRingSize":`+number()+`,"maxRingSize":`+number()+`,"requestHashHeader":`+seldom(`"x-bin"`, `"etcd-affinity"`)+`}}`,
			`{"weighted_round_robin":{"weightUpdatePeriod":`+duration()+`,"oobReportingPeriod":`+duration()+`,"enableOobLoadReport":true}}`,
			`{"`+one("Round_Robin", "grpclb", "xds_cluster_impl_experimental", "priority_experimental", "autosharding_experimental", "")+`":{}}`,
		)
	}
	outlier = func() string {
		return `{"outlier_detection_experimental":{` + seldom(``, `"interval":`+seldom(duration(), `"0.1s"`)+`,`) +
			one(``, `"failurePercentageEjection":{"threshold":`+number()+`,"minimumHosts":0,"requestVolume":0},`, `"successRateEjection":{"stdevFactor":`+number()+`},`, `"maxEjectionPercent":`+number()+`,`) +
			`"childPolicy":` + seldom(`null`, `[`+leaf()+`]`) + `}}`
	}
	child := func() string { return one(leaf(), leaf(), outlier()) }
	etcd := func() string {
		drain := `["s0"]`
		if random.IntN(8) == 0 {
			drain = `["` + strings.Repeat(`gone","`, random.IntN(20_000)) + `s1"]`
		}
		return `{"etcd":{` +
			one(``, `"preferZone":true,`, `"drain":`+seldom(number(), drain)+`,`) +
			one(``, `"split":[{"match":{"version":"v0"},"weight":`+number()+`},{"match":{"version":"v1"},"weight":1}],`, `"split":[{"match":{"zone":"x"},"weight":1}],`, `"split":`+seldom("[]", `[{"match":{},"weight":1}]`)+`,`) +
			`"childPolicy":[` + child() + `]}}`
	}
	method := `"methodConfig":[{"name":[` + one(`{}`, `{"service":"basic.Greeter"}`, `{"method":"x"}`) + `],` +
		one(`"waitForReady":true`, `"timeout":`+duration(), `"maxResponseMessageBytes":`+number(),
			`"retryPolicy":{"maxAttempts":`+number()+`,"initialBackoff":`+duration()+`,"maxBackoff":`+duration()+`,"backoffMultiplier":`+number()+`,"retryableStatusCodes":["INTERNAL"]}`) + `}]`
	switch random.IntN(24) {
	case 0:
		return one("", "null", "{", "[]", `{"x":1}`, strings.Repeat("[", 100_000), `{"loadBalancingPolicy":"etcd"}`, `{"loadBalancingPolicy":"outlier_detection_experimental"}`)
	case 1:
		return `{"loadBalancingConfig":[` + etcd() + `],"healthCheckConfig":{"serviceName":` + seldom("1", `"basic.Greeter"`) + `}}`
	case 2, 3:
		return `{` + method + `}`
	case 4:
		return `{"retryThrottling":{"maxTokens":` + number() + `,"tokenRatio":` + number() + `}}`
	}
	return `{"loadBalancingConfig":[` + one(etcd(), etcd(), child()) + `]` + seldom(`,`+method, ``) + `}`
}

// watchHeap returns the largest heap seen until the end. More than a bound fails the test.
func watchHeap(t *testing.T, end time.Time) <-chan uint64 {
	const bound = 1 << 30
	largest := make(chan uint64, 1)
	go func() {
		peak := uint64(0)
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for ; time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
		}
		if peak > bound {
			t.Errorf("the heap grew to %d MB", peak>>20)
		}
		largest <- peak
	}()
	return largest
}

// cpuTime returns the time that the process has spent in Go code. Go reckons it when it collects garbage.
func cpuTime() time.Duration {
	goruntime.GC()
	sample := []metrics.Sample{{Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(sample)
	return time.Duration(sample[0].Value.Float64() * float64(time.Second))
}
