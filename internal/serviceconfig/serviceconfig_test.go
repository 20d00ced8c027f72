package serviceconfig

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/credentials/insecure"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"
)

// init registers fakes of policies that other packages register: the runtime,
// and packages with dependencies that this module lacks. The module integration
// tests the real policies.
func init() {
	for _, name := range []string{EtcdName, WeightedName, PeakEwmaName, OutlierDetectionName} {
		balancer.Register(fake(name))
	}
}

type fake string

func (f fake) Name() string {
	return string(f)
}

func (f fake) Build(balancer.ClientConn, balancer.BuildOptions) balancer.Balancer {
	return nil
}

func (f fake) ParseConfig(raw json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	if f == EtcdName {
		e, err := ParseEtcd(raw)

		return struct {
			grpcserviceconfig.LoadBalancingConfig
			*Etcd
		}{nil, e}, err
	}

	return nil, nil
}

func policyOf(config string) string {
	return `{"loadBalancingConfig":[` + config + `]}`
}

func etcdOf(fields string) string {
	return policyOf(`{"etcd":{` + fields + `}}`)
}

func methodOf(fields string) string {
	return `{"methodConfig":[{"name":[{}],` + fields + `}]}`
}

// retryOf returns a config with a retry policy. The given field of the policy
// has the value, or is left out if value is "".
func retryOf(field, value string) string {
	var parts []string
	for _, f := range [][2]string{{"maxAttempts", "3"}, {"initialBackoff", `"1s"`}, {"maxBackoff",
		`"1s"`},
		{"backoffMultiplier", "2"}, {"retryableStatusCodes", `["UNAVAILABLE"]`}} {
		if f[0] == field {
			f[1] = value
		}

		if f[1] != "" {
			parts = append(parts, `"`+f[0]+`":`+f[1])
		}
	}

	return methodOf(`"retryPolicy":{` + strings.Join(parts, ",") + `}`)
}

const outlierChild = `"childPolicy":[{"round_robin":{}}]`

func outlierOf(fields string) string {
	return policyOf(`{"outlier_detection_experimental":{` + fields + `}}`)
}

// accepted has valid configs and their JSON. "" means that the JSON is the same
// text.
var accepted = []struct{ text, json string }{
	{`{}`, ``},
	// The document.
	{`{"loadBalancingPolicy":"etcd"}`, etcdOf(outlierChild)},
	{`{"methodConfig":[]}`, ``},
	{`{"retryThrottling":{"maxTokens":1e1,"tokenRatio":0.10}}`,
		`{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`},
	{`{"healthCheckConfig":{}}`, `{"healthCheckConfig":{"serviceName":""}}`},
	{`{"health\u0043heckConfig":{"serviceName":"<&>"}}`,
		`{"healthCheckConfig":{"serviceName":"<&>"}}`},
	// Methods.
	{`{"methodConfig":[{"name":[{"service":"a.B"},{"service":"a.B","method":"C"}],"timeout":"0.5s","waitForReady":false}]}`,
		`{"methodConfig":[{"name":[{"service":"a.B"},{"service":"a.B","method":"C"}],"timeout":"0.500s","waitForReady":false}]}`},
	{methodOf(`"timeout":"1s","waitForReady":true,"maxRequestMessageBytes":0,"maxResponseMessageBytes":4194304`), ``},
	{methodOf(`"timeout":"9223372035s"`), ``},
	{retryOf("", ""), ``},
	{retryOf("retryableStatusCodes", `[14,"CANCELLED","RESOURCE_EXHAUSTED",16]`),
		retryOf("retryableStatusCodes",
			`["UNAVAILABLE","CANCELLED","RESOURCE_EXHAUSTED","UNAUTHENTICATED"]`)},
	// Policies.
	{policyOf(`{"pick_first":{"shuffleAddressList":true}}`), ``},
	{policyOf(`{"ring_hash_experimental":{"minRingSize":1,"maxRingSize":8388608,"requestHashHeader":"etcd-affinity"}}`), ``},
	{policyOf(`{"ring_hash_experimental":{"requestHashHeader":"User-ID"}}`),
		policyOf(`{"ring_hash_experimental":{"requestHashHeader":"user-id"}}`)},
	{outlierOf(`"interval":"0.100s","baseEjectionTime":"0s","maxEjectionTime":"0s","maxEjectionPercent":100,` +
		`"successRateEjection":{"stdevFactor":0,"enforcementPercentage":0,"minimumHosts":0,"requestVolume":4294967295},` +
		`"failurePercentageEjection":{"threshold":100,"enforcementPercentage":0,"minimumHosts":0,"requestVolume":0},` +
		outlierChild), ``},
	{policyOf(`{"outlier_detection_experimental":{` + outlierChild + `}},{"round_robin":{}}`), ``},
	{outlierOf(`"childPolicy":[{"etcd":{"preferZone":true,"childPolicy":[{"etcd_weighted":{}},{"round_robin":{}}]}},{"round_robin":{}}]`), ``},
	{etcdOf(`"drain":["a",{"instance":"b"},{"instance":"c","until":"2026-12-01T10:00:00+01:00","by":"x","at":"x"}]`),
		etcdOf(`"drain":["a","b",{"instance":"c","until":"2026-12-01T10:00:00+01:00","by":"x","at":"x"}]`)},
	{etcdOf(`"drain":[],"preferZone":false`), etcdOf(`"preferZone":false,"drain":[]`)},
	{etcdOf(`"split":[{"match":{"version":"v2","zone":""},"weight":1},{"match":{"version":"v1"}}]`),
		etcdOf(`"split":[{"match":{"version":"v2","zone":""},"weight":1},{"match":{"version":"v1"},"weight":0}]`)},
	{etcdOf(`"preferZone":true,"zoneMinPercent":70,"subset":20,"maxConcurrentRequests":100,` +
		outlierChild), ``},
	{etcdOf(`"slowStart":{"window":"3600s","minPercent":100},"childPolicy":[{"etcd_weighted":{}}]`),
		``},
	{etcdOf(`"minHealthyPercent":50,"drain":["a"],"childPolicy":[{"etcd_weighted":{}}]`), ``},
	{etcdOf(`"route":[{"lane":"a/b","match":{"version":"v2"}},{"label":"lane","strict":true}],"laneHeader":"x-lane",` +
		outlierChild), ``},
}

func TestParse(t *testing.T) {
	for _, tt := range accepted {
		c, err := ParseLive(tt.text)
		if err != nil {
			t.Errorf("ParseLive(%s): error %v, want none", tt.text, err)
			continue
		}

		want := cmp.Or(tt.json, tt.text)
		if got := c.JSON(); got != want {
			t.Errorf("the JSON of %s is\n%s\nwant\n%s", tt.text, got, want)
		}

		if err := gRPCParse(c.JSON()); err != nil {
			t.Errorf("gRPC rejects the JSON of %s: %v", tt.text, err)
		}
	}
}

// refused has invalid configs and their errors. A code after a config is the row
// of docs/measured/reliability.md that it belongs to.
var refused = []struct{ text, want string }{
	// The text.
	{``, `the service config is empty: want a JSON object`}, // K6
	{`null`, `the service config is null: want a JSON object`},
	{`[]`, `the service config is []: want a JSON object`},
	{`{} {}`,
		`the service config is not a JSON object: invalid character '{' after top-level value`},
	{"{\"healthCheckConfig\":{\"serviceName\":\"\xff\"}}",
		`the service config is not valid UTF-8`},
	{strings.Repeat("[", 100) + strings.Repeat("]", 100),
		`the service config nests objects and arrays deeper than 32`}, // S5
	{strings.Repeat("[", MaxSize),
		`the service config nests objects and arrays deeper than 32`}, // S5
	{strings.Repeat("[", MaxSize+1), `the service config has 262145 bytes, more than 262144`}, // S5
	// The document: names are exact, and null is rejected.
	{`{"LoadBalancingConfig":[{"round_robin":{}}]}`,
		`unknown field "LoadBalancingConfig": want healthCheckConfig, loadBalancingConfig, loadBalancingPolicy, methodConfig, retryThrottling`}, // P9
	{`{"loadBalancingConfig":null}`,
		`loadBalancingConfig: want a list of policies, not null`}, // S1
	{`{"loadBalancingConfig":[]}`,
		`loadBalancingConfig: the list is empty: name policies, or leave the field out`},
	{`{"loadBalancingPolicy":"round_robin","loadBalancingConfig":[{"round_robin":{}}]}`,
		`loadBalancingPolicy: is set together with loadBalancingConfig, which gRPC prefers: leave it out`},
	{`{"loadBalancingPolicy":"grpclb"}`, `loadBalancingPolicy: ` + noPolicy("grpclb")}, // P9
	{`{"loadBalancingPolicy":"outlier_detection_experimental"}`,
		`loadBalancingPolicy.outlier_detection_experimental.childPolicy: is missing`}, // S1
	{`{"loadBalancingPolicy":"ring_hash_experimental"}`,
		`loadBalancingPolicy.ring_hash_experimental.requestHashHeader: is missing`}, // S16
	{`{"retryThrottling":{"maxTokens":10}}`, `retryThrottling.tokenRatio: is missing`},
	{`{"retryThrottling":{"maxTokens":1001,"tokenRatio":1}}`,
		`retryThrottling.maxTokens: want a number, more than 0 and at most 1000, not 1001`},
	{`{"retryThrottling":{"maxTokens":1,"tokenRatio":1e400}}`,
		`retryThrottling.tokenRatio: want a number, more than 0, not 1e400`},
	{`{"healthCheckConfig":{"serviceName":1}}`,
		`healthCheckConfig.serviceName: want a string, not 1`},
	// Methods.
	{`{"methodConfig":[{"timeout":"1s"}]}`, `methodConfig[0].name: is missing`},
	{`{"methodConfig":[{"name":[]}]}`,
		`methodConfig[0].name: the list is empty: name methods, or leave the field out`},
	{`{"methodConfig":[{"name":[{"method":"M"}]}]}`,
		`methodConfig[0].name[0]: names the method "M" without its service`},
	{`{"methodConfig":[{"name":[{"service":"/a.B"}]}]}`,
		`methodConfig[0].name[0].service: want a name without slashes, not "/a.B"`},
	{`{"methodConfig":[{"name":[{"service":"a"}]},{"name":[{},{"service":"a"}]}]}`,
		`methodConfig[1].name: "a/" is named twice`},
	{methodOf(`"timeout":"0s"`), `methodConfig[0].timeout: want more than 0, not "0s"`},
	{methodOf(`"timeout":"9223372036s"`),
		`methodConfig[0].timeout: want seconds such as "1.5s", at most 9223372035s, not "9223372036s"`},
	{methodOf(`"maxRequestMessageBytes":2147483648`),
		`methodConfig[0].maxRequestMessageBytes: 2147483648 is above gRPC's default of 2147483647: a live config may lower the limit, not lift it`}, // S10
	{methodOf(`"maxResponseMessageBytes":4194305`),
		`methodConfig[0].maxResponseMessageBytes: 4194305 is above gRPC's default of 4194304: a live config may lower the limit, not lift it`}, // S10
	{retryOf("maxAttempts", "6"),
		`methodConfig[0].retryPolicy.maxAttempts: want a whole number from 2 to 5, not 6`},
	{retryOf("maxAttempts", ""), `methodConfig[0].retryPolicy.maxAttempts: is missing`},
	{retryOf("initialBackoff", `"2s"`),
		`methodConfig[0].retryPolicy.initialBackoff: is 2s, longer than maxBackoff, which is 1s`},
	{retryOf("backoffMultiplier", "0"),
		`methodConfig[0].retryPolicy.backoffMultiplier: want a number, more than 0, not 0`},
	{retryOf("retryableStatusCodes", "[]"),
		`methodConfig[0].retryPolicy.retryableStatusCodes: the list is empty: name status codes, or leave the field out`},
	{retryOf("retryableStatusCodes", `["NOPE"]`),
		`methodConfig[0].retryPolicy.retryableStatusCodes[0]: want a status code such as "UNAVAILABLE", not "NOPE"`},
	{retryOf("retryableStatusCodes", `[14,null]`),
		`methodConfig[0].retryPolicy.retryableStatusCodes[1]: want a status code such as "UNAVAILABLE", not null`},
	{retryOf("retryableStatusCodes", `["OK"]`),
		`methodConfig[0].retryPolicy.retryableStatusCodes[0]: is OK, which is not a failure: name the codes to retry after`},
	// Policies, by name and place.
	{policyOf(`{"Round_Robin":{}}`), `loadBalancingConfig[0]: ` + noPolicy("Round_Robin")}, // S16
	{policyOf(`{"weighted_round_robin":{}}`),
		`loadBalancingConfig[0]: ` + noPolicy("weighted_round_robin")}, // P4
	{etcdOf(`"childPolicy":[{"round_robin":{}},{"rls_experimental":{}}]`),
		`loadBalancingConfig[0].etcd.childPolicy[1]: ` + noPolicy("rls_experimental")}, // P4
	{policyOf(`{}`), `loadBalancingConfig[0]: the entry names no policy`},
	{policyOf(`{"round_robin":{},"pick_first":{}}`),
		`loadBalancingConfig[0]: want one policy an entry, not more`},
	{policyOf(`{"round_robin":null}`),
		`loadBalancingConfig[0].round_robin: want an object, not null`}, // S1
	{policyOf(`{"round_robin":{"x":1}}`),
		`loadBalancingConfig[0].round_robin: unknown field "x": want none`},
	{policyOf(`{"round_robin":{}},{"etcd":{}}`),
		`loadBalancingConfig[1]: the policy "etcd" must be the first of the list`}, // P4
	{etcdOf(`"childPolicy":[{"etcd":{}}]`),
		`loadBalancingConfig[0].etcd.childPolicy[0]: the policy "etcd" must not stand below "etcd"`},
	{outlierOf(``),
		`loadBalancingConfig[0].outlier_detection_experimental.childPolicy: is missing`}, // S1
	{etcdOf(`"childPolicy":[{"outlier_detection_experimental":{}}]`),
		`loadBalancingConfig[0].etcd.childPolicy[0]: ` + belowEtcd}, // S1
	{outlierOf(`"childPolicy":[{"round_robin":{}},{"etcd":{}}]`),
		`loadBalancingConfig[0].outlier_detection_experimental.childPolicy[1]: the policy "etcd" must be the first of the list`}, // P4
	{outlierOf(
		`"childPolicy":[{"etcd":{"childPolicy":[{"round_robin":{}},{"pick_first":{}}]}}]`),
		`loadBalancingConfig[0].outlier_detection_experimental.childPolicy[0].etcd.childPolicy[1]: the policy "pick_first" must not stand below "outlier_detection_experimental"`},
	{outlierOf(`"childPolicy":[{"pick_first":{}}]`),
		`loadBalancingConfig[0].outlier_detection_experimental.childPolicy[0]: the policy "pick_first" must not stand below "outlier_detection_experimental"`},
	// Policies, by field.
	{policyOf(`{"pick_first":{"shuffleAddressList":1}}`),
		`loadBalancingConfig[0].pick_first.shuffleAddressList: want true or false, not 1`},
	{policyOf(`{"least_request_experimental":{"choiceCount":1}}`),
		`loadBalancingConfig[0].least_request_experimental.choiceCount: want a whole number from 2 to 10, not 1`},
	{policyOf(`{"ring_hash_experimental":{}}`),
		`loadBalancingConfig[0].ring_hash_experimental.requestHashHeader: is missing`}, // S16
	{policyOf(`{"ring_hash_experimental":{"requestHashHeader":"a-bin"}}`),
		`loadBalancingConfig[0].ring_hash_experimental.requestHashHeader: ` +
			badHeader + `"a-bin"`}, // S16
	{policyOf(`{"ring_hash_experimental":{"minRingSize":5000,"requestHashHeader":"a"}}`),
		`loadBalancingConfig[0].ring_hash_experimental.minRingSize: is 5000, above maxRingSize, which is 4096; left out, they are 1024 and 4096`},
	{outlierOf(`"interval":"0s",` + outlierChild),
		`loadBalancingConfig[0].outlier_detection_experimental.interval: want at least 0.100s, not "0s"`}, // S6
	{outlierOf(`"maxEjectionTime":"29s",` + outlierChild),
		`loadBalancingConfig[0].outlier_detection_experimental.maxEjectionTime: is 29s, below baseEjectionTime, which is 30s; left out, that is 30s`},
	{outlierOf(`"intervall":"1s",` + outlierChild),
		`loadBalancingConfig[0].outlier_detection_experimental: unknown field "intervall": want baseEjectionTime, childPolicy, failurePercentageEjection, interval, maxEjectionPercent, maxEjectionTime, successRateEjection`}, // P9
	// The policy "etcd".
	{etcdOf(`"drian":[]`),
		`loadBalancingConfig[0].etcd: unknown field "drian": want ` + etcdNames},
	{etcdOf(`"drain":[""]`),
		`loadBalancingConfig[0].etcd.drain[0]: want an instance or an address, not an empty name`},
	{etcdOf(`"drain":[{"until":"2026-12-01T10:00:00Z"}]`),
		`loadBalancingConfig[0].etcd.drain[0].instance: is missing`},
	{etcdOf(`"drain":[{"instance":"a","until":"soon"}]`),
		`loadBalancingConfig[0].etcd.drain[0].until: want a time such as 2026-12-01T09:00:00Z, not "soon"`},
	{etcdOf(`"split":[{"weight":1}]`),
		`loadBalancingConfig[0].etcd.split[0].match: is missing`},
	{etcdOf(`"split":[{"match":{},"weight":1}]`),
		`loadBalancingConfig[0].etcd.split[0].match: is empty: name what the endpoints of the group have in common`},
	{etcdOf(`"split":[{"match":{"version":2},"weight":1}]`),
		`loadBalancingConfig[0].etcd.split[0].match["version"]: want a string, not 2`},
	{etcdOf(`"split":[{"match":{"a":"1"},"weight":0}]`),
		`loadBalancingConfig[0].etcd.split: all weights are zero`},
	{etcdOf(`"split":[{"match":{"a":"1"},"weight":1},{"match":{"a":"1"},"weight":2}]`),
		`loadBalancingConfig[0].etcd.split[1].match: an earlier group has the same, and so all endpoints of this one`},
	{etcdOf(`"subset":0`),
		`loadBalancingConfig[0].etcd.subset: want a whole number from 1 to 100000, not 0`},
	{etcdOf(`"preferZone":true,"zoneMinPercent":101`),
		`loadBalancingConfig[0].etcd.zoneMinPercent: want a whole number from 1 to 100, not 101`},
	{etcdOf(`"maxConcurrentRequests":1,"childPolicy":[{"pick_first":{}}]`),
		`loadBalancingConfig[0].etcd.maxConcurrentRequests: has no effect with "pick_first": leave one of them out`},
	{etcdOf(`"slowStart":{"window":"0s"}`),
		`loadBalancingConfig[0].etcd.slowStart.window: want at least 1s, not "0s"`},
	{etcdOf(`"slowStart":{"window":"1s","minPercent":101}`),
		`loadBalancingConfig[0].etcd.slowStart.minPercent: want a whole number from 1 to 100, not 101`},
	{etcdOf(`"slowStart":{"window":"1s"},"childPolicy":[{"least_request_experimental":{}}]`),
		`loadBalancingConfig[0].etcd.slowStart: has no effect with "least_request_experimental": leave one of them out`},
	{etcdOf(`"preferZone":true,"zoneMinPercent":50,"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"a"}}]`),
		`loadBalancingConfig[0].etcd.zoneMinPercent: has no effect with "ring_hash_experimental": leave one of them out`},
	{etcdOf(`"laneHeader":"x-lane",` + outlierChild),
		`loadBalancingConfig[0].etcd.laneHeader: has no effect without route: set that too`},
	{etcdOf(`"laneHeader":"x lane","route":[{"label":"lane"}]`),
		`loadBalancingConfig[0].etcd.laneHeader: ` + badHeader + `"x lane"`},
	{etcdOf(`"route":[{}]`),
		`loadBalancingConfig[0].etcd.route[0].lane: is missing: name the lane and what its instances match, or the label that holds each instance's lane`},
	{etcdOf(`"route":[{"lane":"a"}]`),
		`loadBalancingConfig[0].etcd.route[0].match: is missing: name what the instances of the lane have in common`},
	{etcdOf(`"route":[{"lane":"a","label":"lane"}]`),
		`loadBalancingConfig[0].etcd.route[0].label: is set together with lane or match: an instance's lane is either named here or by the instance`},
	{etcdOf(`"route":[{"lane":"` + strings.Repeat("a", 10<<10) + `","match":{"a":"1"}}]`),
		`loadBalancingConfig[0].etcd.route[0].lane: "` + strings.Repeat("a", 60) +
			`" is not a lane: want at most 128 letters, digits and "-_.:/"`},
	{etcdOf(`"route":[{"lane":"a","match":{"a":"1"}},{"lane":"a","match":{"a":"2"}}]`),
		`loadBalancingConfig[0].etcd.route[1].lane: is that of an earlier route`},
	{etcdOf(`"route":[` + listOf(65, `{"lane":"%[1]d","match":{"version":"%[1]d"}}`) + `]`),
		`loadBalancingConfig[0].etcd.route[64]: is one too many: want at most 64 routes`},
	{etcdOf(`"split":[{"match":{"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":""},"weight":1}]`),
		`loadBalancingConfig[0].etcd.split[0].match: has one too many: want at most 8 names`}, // S7
	{etcdOf(`"split":[` + listOf(257, `{"match":{"a":"%d"},"weight":1}`) + `]`),
		`loadBalancingConfig[0].etcd.split[256]: is one too many: want at most 256 groups`}, // S7
	{etcdOf(`"split":[` + listOf(17, `{"match":{"a%d":""},"weight":1}`) + `]`),
		`loadBalancingConfig[0].etcd.split[16].match: has one name too many: want at most 16 different names in all groups`}, // S7
}

// etcdNames lists the options as errors do.
var etcdNames = func() string {
	var names []string
	for _, o := range Options {
		names = append(names, o.Name)
	}

	slices.Sort(names)

	return strings.Join(names, ", ")
}()

const (
	belowEtcd = `the policy "outlier_detection_experimental" must not stand below "etcd" but above it: {"outlier_detection_experimental": {..., "childPolicy": [{"etcd": {...}}]}}`
	badHeader = `want the name of a header, of letters, digits, ".", "-" and "_", that does not end in "-bin", not `
)

// noPolicy is the error for a policy of another package.
func noPolicy(name string) string {
	return `want one of the policies etcd, etcd_peak_ewma, etcd_weighted, least_request_experimental, outlier_detection_experimental, pick_first, ring_hash_experimental, round_robin, not "` +
		name + `"; for any other, call grpc.NewClient("etcd:///KEY", grpc.WithResolvers(registry.Resolver()))`
}

// listOf returns the elements of a list, each with its number.
func listOf(n int, format string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}

	return strings.Join(all, ",")
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range refused {
		if c, err := ParseLive(tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("ParseLive(%.200s) = %+v, %v\nwant %s", tt.text, c, err, tt.want)
		}
	}
}

// TestReadPolicy checks that all faults are returned. It also checks the bounds
// of the fields without a row above.
func TestReadPolicy(t *testing.T) {
	percent := map[string]any{"enforcementPercentage": 101, "minimumHosts": -1, "threshold": 101}
	for name, tt := range map[string]struct {
		config map[string]any
		want   string
	}{
		RoundRobinName: {map[string]any{}, ""},
		RingHashName: {
			map[string]any{"maxRingSize": 8<<20 + 1},
			"maxRingSize: want a whole number from 1 to 8388608, not 8388609; requestHashHeader: is missing",
		},
		OutlierDetectionName: {map[string]any{
			"baseEjectionTime":          1,
			"maxEjectionTime":           "1s",
			"successRateEjection":       []any{},
			"failurePercentageEjection": percent,
		},
			`baseEjectionTime: want a duration such as "1.5s", not 1; successRateEjection: want an object, not []; ` +
				"failurePercentageEjection.threshold: want a whole number from 0 to 100, not 101; failurePercentageEjection.enforcementPercentage: want a whole number from 0 to 100, not 101; " +
				"failurePercentageEjection.minimumHosts: want a whole number from 0 to 4294967295, not -1; childPolicy: is missing"},
		EtcdName: {map[string]any{
			"slowStart":             map[string]any{"window": "3601s"},
			"minHealthyPercent":     101,
			"zoneMinPercent":        50,
			"maxConcurrentRequests": 0,
			"route":                 []any{7, map[string]any{}},
		},
			`slowStart.window: want at most 3600s, not "3601s"; ` +
				"route[0]: want an object, not 7; route[1].lane: is missing: name the lane and what its instances match, or the label that holds each instance's lane; " +
				"maxConcurrentRequests: want a whole number from 1 to 4294967295, not 0; minHealthyPercent: want a whole number from 1 to 100, not 101; zoneMinPercent: has no effect without preferZone: set that too"},
	} {
		var got []string
		faults := new(Faults)
		_, err := ReadPolicy(name, tt.config)
		_ = errors.As(err, &faults) // err may be nil
		for _, f := range *faults {
			got = append(got, f.Error())
		}

		if strings.Join(got, "; ") != tt.want {
			t.Errorf("ReadPolicy(%s) has the faults %s\nwant %s", name, strings.Join(got, "; "),
				tt.want)
		}
	}
}

// Parsing a hostile text takes at most a hundred bytes of memory for each byte
// of the text.
func TestParse_BoundsMemory(t *testing.T) {
	fill := func(before, part, after string) string {
		return before + strings.TrimSuffix(strings.Repeat(part,
			(MaxSize-400-len(before)-len(after))/len(part)), ",") + after
	}
	for name, text := range map[string]string{
		"brackets":    strings.Repeat("[", MaxSize),
		"objects":     strings.Repeat(`{"a":`, MaxSize/5),
		"drain":       etcdOf(fill(`"drain":[`, `"a",`, `]`)),
		"wrong drain": etcdOf(fill(`"drain":[`, `{},`, `]`)),
		"policies":    policyOf(fill(``, `{"round_robin":{}},`, `{"round_robin":{}}`)),
		"outlier": policyOf(fill(``,
			`{"outlier_detection_experimental":{"successRateEjection":{},"failurePercentageEjection":{},"childPolicy":[{"etcd":{}}]}},`,
			`{"round_robin":{}}`)),
		"codes":       retryOf("retryableStatusCodes", fill(`[`, `14,`, `]`)),
		"methods":     `{"methodConfig":[` + numbered(`{"name":[{"service":"%d"}]}`) + `]}`,
		"fields":      `{` + numbered(`"%d":0`) + `}`,
		"match":       etcdOf(`"split":[{"match":{` + numbered(`"%d":""`) + `},"weight":1}]`),
		"long name":   `{"` + strings.Repeat("a", MaxSize-10) + `":1}`,
		"long string": `{"loadBalancingPolicy":"` + strings.Repeat("\u202e", MaxSize/3-20) + `"}`,
		"long number": `{"methodConfig":` + strings.Repeat("9", MaxSize-30) + `}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := ParseLive(text)
		runtime.ReadMemStats(&after)

		got := after.TotalAlloc - before.TotalAlloc
		if got > 100*MaxSize || len(text) > MaxSize {
			t.Errorf("%s: parsing %d bytes allocates %d bytes, want at most %d", name, len(text),
				got, 100*MaxSize)
		}

		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: the error has %d bytes, want at most 1000", name, len(err.Error()))
		}

		if c != nil && len(c.JSON()) > 4*MaxSize {
			t.Errorf("%s: the JSON has %d bytes, want at most %d", name, len(c.JSON()), 4*MaxSize)
		}
	}
}

func numbered(format string) string {
	var all []string
	for size := 0; size < MaxSize-1000; size += len(all[len(all)-1]) + 1 {
		all = append(all, fmt.Sprintf(format, len(all)))
	}

	return strings.Join(all, ",")
}

func TestLoadBalancingOnly(t *testing.T) {
	for text, want := range map[string]string{
		etcdOf(`"drain":["a"]`):                              `<nil>`,
		methodOf(`"maxResponseMessageBytes":4294967295`):     `leave out methodConfig: this client accepts only load balancing in a live config`,
		`{"retryThrottling":{"maxTokens":1,"tokenRatio":1}}`: `leave out retryThrottling: this client accepts only load balancing in a live config`,
		`{"healthCheckConfig":{}}`:                           `leave out healthCheckConfig: this client accepts only load balancing in a live config`,
	} {
		c, err := Parse(text)
		if err != nil || fmt.Sprint(c.LoadBalancingOnly()) != want {
			t.Errorf("%s: LoadBalancingOnly() = %v, error of Parse %v, want %s", text,
				c.LoadBalancingOnly(), err, want)
		}
	}
}

func TestLinked(t *testing.T) {
	for _, tt := range []struct{ text, linked, want string }{
		{`{"methodConfig":[]}`, ``, `<nil>`},
		{outlierOf(outlierChild), `round_robin`,
			`the policy "outlier_detection_experimental" is not linked in this binary: import _ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"`},
		{policyOf(`{"outlier_detection_experimental":{` + outlierChild + `}},{"pick_first":{}}`),
			`pick_first round_robin`, `<nil>`},
		{outlierOf(`"childPolicy":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}]}}]`),
			`outlier_detection_experimental`, `<nil>`},
	} {
		c, err := Parse(tt.text)
		if err != nil {
			t.Fatal(err)
		}

		err = c.Linked(func(name string) bool {
			return slices.Contains(strings.Fields(tt.linked), name)
		})
		if fmt.Sprint(err) != tt.want {
			t.Errorf("Linked() of %s with the policies %s = %v, want %s", tt.text, tt.linked, err,
				tt.want)
		}
	}
}

func gRPCParse(text string) error {
	conn, err := grpc.NewClient("passthrough:///unused",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(text))
	if err != nil {
		return err
	}

	return conn.Close()
}
