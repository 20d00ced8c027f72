package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// fault is a fault among services in etcd, and the finding that doctor must
// report.
type fault struct {
	name    string
	kind    string
	problem string // a part of the finding's severity, problem and remedy
	where   string // the end of one of the finding's keys
	plant   plant  // creates the fault
}

// plant creates a fault at a key.
type plant func(f *planted, at string)

// entry plants a value on a lease.
func entry(value string) plant {
	return func(f *planted, at string) { f.lease(at, value) }
}

// unleased plants a value without a lease.
func unleased(value string) plant {
	return func(f *planted, at string) { f.put(at, value) }
}

// with returns a plant that runs p, and also plants instances of a service.
func (p plant) with(key string, metadata ...string) plant {
	return func(f *planted, at string) {
		f.instances(key, metadata...)
		p(f, at)
	}
}

// instance plants an instance whose address leads to a server of newYard, by
// default to the healthy one.
func instance(server ...string) plant {
	return says("null", server...)
}

// says is like instance, and gives the instance metadata.
func says(metadata string, server ...string) plant {
	return func(f *planted, at string) {
		key, addr := path.Split(at)
		f.says(strings.TrimSuffix(key, "/"), addr, metadata, server...)
	}
}

// policy plants a live config, and an instance for each element of metadata.
// The second instance of acme/user has the address user-2:9000.
func policy(config string, metadata ...string) plant {
	return func(f *planted, at string) {
		key, addr := path.Split(strings.TrimPrefix(at, inventory.ConfigPrefix))
		if !strings.Contains(addr, ":") {
			key += addr
		}

		f.instances(strings.TrimSuffix(key, "/"), metadata...)
		f.policy(strings.TrimSuffix(key, "/"), config)
	}
}

// etcdPolicy is like policy, for a live config with these fields of the policy
// "etcd".
func etcdPolicy(fields string, metadata ...string) plant {
	return policy(`{"loadBalancingConfig":[{"etcd":{`+fields+`}}]}`, metadata...)
}

// faults are planted together: doctor must find each of them once.
var faults = []fault{
	{"an entry of no layout beside a good one", "malformed", `address "10.1.1.2"`,
		"acme/alpha/old", entry("10.1.1.2").with("acme/alpha")},
	{"a candidate without an entry", "leader", `"gone", which has no entry`,
		"_grpc_leader/acme/led//one", entry("gone").with("acme/led")},
	{"a service whose only entry is malformed", "malformed", "want a port", "acme/bravo/one",
		entry(`{"Addr":"10.1.2.1:99999"}`)},
	{"an entry without a lease", "no-lease", "no lease", "acme/charlie/10.1.3.2:9000",
		unleased(`{"Addr":"10.1.3.2:9000"}`).with("acme/charlie")},
	{"a lease that nobody renews", "expiring", "accepts connections", "acme/delta/10.1.4.1:9000", func(
		f *planted,
		at string,
	) {
		f.dying(at, `{"Addr":"10.1.4.1:9000"}`)

		// left by an earlier run of a server: no fault, because it expires
		f.dying("acme/delta-left@", "10.1.4.2:9000")
		f.lease("acme/delta-left@", "10.1.4.2:9000")
	}},
	{"a server that is not there", "unreachable", "10.1.5.1:9000 accepts no connection",
		"acme/echo/10.1.5.1:9000", instance("")},
	{"a server that died", "unreachable", "nobody renews its lease", "acme/foxtrot/10.1.6.1:9000", func(
		f *planted,
		at string,
	) {
		f.dying(at, `{"Addr":"10.1.6.1:9000"}`)
		f.route("10.1.6.1:9000", "")
	}},
	{"two instances at one address", "duplicate-address", "2 entries have the address 10.1.7.1:9000", "acme/golf/two", func(
		f *planted,
		at string,
	) {
		f.lease("acme/golf/one", `{"Addr":"10.1.7.1:9000"}`)
		f.lease(at, `{"Addr":"10.1.7.1:9000"}`)
	}},
	{"two layouts", "mixed-layouts", "written in 2 layouts", "acme/hotel/10.1.8.2:9000",
		entry("10.1.8.2:9000").with("acme/hotel")},
	{"a key with a double slash", "bad-key", "double slash", "acme//india",
		func(f *planted, at string) { f.instances(at) }},
	{"an address as JSON", "malformed", "no client can read the entry: ", "acme/ivy/a",
		unleased(`"10.1.61.1:9000"`).with("acme/ivy")},
	{"an entry with the namespace twice", "bad-key", "clients with the key acme/indigo do not find this", "/acme/indigo", func(
		f *planted,
		_ string,
	) {
		f.instances("acme/indigo")
		f.lease(f.namespace+"acme/indigo/n", `{"Addr":"10.1.62.1:9000"}`)
	}},
	{"a value at the service key itself", "bad-key",
		"clients of acme/iris read only keys below it", "acme/iris",
		entry("10.1.60.1:9000").with("acme/iris")},
	{"a live config with a slash before its key", "bad-key", "reserved",
		"/_grpc_config/acme/isatis", unleased(noPolicy).with("acme/isatis")},
	{"a live config for a bad key", "bad-key", "white space", "_grpc_config/acme/a b",
		unleased(noPolicy)},
	{"a policy that does not exist", "bad-config", `round_robin, not "round_robbin"`,
		"_grpc_config/acme/papa", policy(`{"loadBalancingConfig":[{"round_robbin":{}}]}`)},
	{"a drain of everything", "no-match", "drain leaves no endpoint", "_grpc_config/acme/sierra",
		etcdPolicy(`"drain":["sierra-1:9000"]`)},
	{"a policy that clients do not link", "unlinked-policy", "outlierdetection",
		"_grpc_config/acme/tango",
		policy(`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"round_robin":{}}]}}]}`)},
	{"a split with an empty group", "no-match", `the group version="v2" of the split matches no endpoint`, "_grpc_config/acme/uniform",
		etcdPolicy(
			`"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1}]`,
			`{"version":"v1"}`)},
	{"a drain of nothing", "no-match", `"victor-9:9000"`, "_grpc_config/acme/victor",
		etcdPolicy(`"drain":["victor-9:9000"]`)},
	{"a drain by an id that clients do not know", "no-match", `drain names "n1"`, "_grpc_config/acme/violet", func(
		f *planted,
		_ string,
	) {
		for n := 1; n <= 2; n++ {
			f.lease(fmt.Sprintf("acme/violet/n%d", n), fmt.Sprintf(
				`{"Addr":"10.1.23.%d:9000","Metadata":{"version":"v1","weight":"10"}}`, n))
			f.lease(fmt.Sprintf("acme/violet/u%d", n),
				fmt.Sprintf(`{"id":"u%[1]d","name":"violet","version":"v1","metadata":{},"endpoints":["grpc://10.1.23.%[1]d:9000"]}`, n))
		}

		f.etcdPolicy("acme/violet", `"drain":["n1"]`)
	}},
	{"a policy without a service", "orphan-config", "acme/whiskey, but no instance",
		"_grpc_config/acme/whiskey", unleased(noPolicy)},
	{"timeouts for a service and a method that are not served", "unserved-method", `warning methodConfig or healthCheckConfig of the live config names what no instance serves: ["acme.Xrai" "acme.Xray/Gte"]`, "_grpc_config/acme/xray",
		policy(`{"methodConfig":[{"name":[{"service":"acme.Xrai"}],"timeout":"1s"},{"name":[{"service":"acme.Xray","method":"Get"},{"service":"acme.Xray","method":"Gte"}],"timeout":"1s"},{"name":[{}],"timeout":"2s"}]}`,
			`{"grpc_methods":"acme.Xray/Get,List"}`)},
	{"a lane without an instance", "no-match", "matches no endpoint", "_grpc_config/acme/yankee",
		etcdPolicy(`"route":[{"lane":"beta","match":{"version":"v2"}}]`)},
	{"a drain of a strict lane", "lane", `error every instance of the lane "pr-7" is drained, and it is strict, so its calls fail`, "_grpc_config/acme/yucca",
		etcdPolicy(`"route":[{"label":"lane","strict":true}],"drain":["yucca-2:9000","yucca-3:9000","yucca-4:9000"]`,
			`{}`, `{"lane":"pr-7"}`, `{"lane":"pr-7"}`, `{"lane":"pr-8"}`, `{"lane":"pr-8"}`)},
	{"a group of a split that is in a lane", "no-match", `the group version="v2" of the split matches only endpoints that are in a lane`, "_grpc_config/acme/yam",
		etcdPolicy(`"route":[{"label":"lane"}],"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1}]`,
			`{"version":"v1"}`, `{"version":"v2","lane":"pr-7"}`)},
	{"the address 0.0.0.0", "local-address", "0.0.0.0:9000 means", "acme/zulu/0.0.0.0:9000",
		instance()},
	{"two loopback addresses among several hosts", "local-address", "127.0.0.1:9000 means the caller's own host, and cedar-1:9000 another", "acme/cedar/localhost:9000", func(
		f *planted,
		at string,
	) {
		f.instances("acme/cedar")
		f.instance("acme/cedar", "127.0.0.1:9000", "") // unreachable from here
		f.instance("acme/cedar", "localhost:9000")
	}},
	{"a port that speaks HTTP/1", "not-serving", "", "acme/dogwood/10.1.30.1:9000",
		instance("http1")},
	{"a server that does not know its health", "not-serving", "UNKNOWN",
		"acme/fern/10.1.46.1:9000", instance("unknown")},
	{"a server that is not serving", "not-serving", "", "acme/fir/10.1.32.1:9000",
		instance("notServing")},
	{"a service that is not serving, of a server that is", "not-serving", "",
		"acme/grape/10.1.37.1:9000",
		says(`{"grpc_methods":"acme.Fig/Get;acme.Grape/Get"}`, "partly")},
	{"the last of many services", "not-serving", "", "acme/quince/10.1.43.1:9000",
		says(`{"grpc_methods":"acme.S1/Get;acme.S2/Get;acme.S3/Get;acme.S4/Get;acme.S5/Get;acme.S6/Get;acme.S7/Get;acme.S8/Get;acme.S9/Get"}`, "many")},
	{"a service whose check hangs", "not-serving", "within " +
		hangTime, "acme/rowan/10.1.44.1:9000",
		says(`{"grpc_methods":"acme.Rowan/Get"}`, "forgetful")},
	{"a proxy without an upstream", "not-serving", "", "acme/sorrel/10.1.45.1:9000",
		says(`{"grpc_methods":"acme.Sorrel/Get"}`, "idle")},
	{"a web server", "not-serving", "", "acme/fig/10.1.38.1:9000", instance("http2")},
	{"a health check that hangs over TLS", "not-serving", "within " + hangTime,
		"acme/maple/10.1.40.1:9000", instance("hanging")},
	{"a certificate that has expired", "certificate", "its certificate is valid only from ",
		"acme/gum/10.1.33.1:9000", instance("expired")},
	{"a certificate that ends soon", "certificate", "its certificate chain ends at ",
		"acme/guava/10.1.33.2:9000", instance("ending")},
	{"a certificate for another name", "certificate", "not acme.hazel",
		"acme/hazel/10.1.34.1:9000", instance("misnamed")},
	{"a certificate of another authority", "certificate", "unknown authority",
		"acme/iroko/10.1.35.1:9000", instance("foreign")},
	{"a version in no group of a split", "no-match", "1 instance is in no group of the split", "acme/birch/birch-2:9000",
		etcdPolicy(`"split":[{"match":{"version":"v1"},"weight":1}]`, `{"version":"v1"}`,
			`{"version":"v2"}`)},
	{"a group that an earlier one takes all of", "no-match", `the group version="v1",zone="a" of the split matches no endpoint`, "_grpc_config/acme/box",
		etcdPolicy(`"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v1","zone":"a"},"weight":9}]`,
			`{"version":"v1","zone":"a"}`)},
	{"a drain that is older than an instance", "drain", `applies to instances registered since, which may be other servers: ["10.1.54.1:9000"]`, "acme/elder/10.1.54.1:9000", func(
		f *planted,
		_ string,
	) {
		f.instances("acme/elder")
		f.etcdPolicy("acme/elder", `"drain":["10.1.54.1:9000"]`)
		f.instance("acme/elder", "10.1.54.1:9000")
	}},
	{"a lease of a year", "no-lease", "on a lease of 8760h0m0s", "acme/hawthorn/10.1.55.1:9000",
		func(f *planted, at string) { f.putOn(at, `{"Addr":"10.1.55.1:9000"}`, 365*24*3600) }},
	{"a start that is no time", "metadata", `start time "1767225600000"`,
		"acme/ivy/10.1.56.1:9000", says(`{"grpc_started":"1767225600000"}`)},
	{"a weight that is no whole number", "metadata", `weight "9.5"`, "acme/kauri/10.1.58.1:9000",
		says(`{"weight":9.5}`)},
	{"a list of methods that is too long", "metadata", "more than the 16384 that callers read",
		"acme/larch/10.1.59.1:9000",
		says(`{"grpc_methods":"acme.Larch/` + strings.Repeat("Get,", 5000) + `List"}`)},
	{"an instance without a zone beside preferZone", "no-match", "1 instance has no zone",
		"acme/oak/oak-2:9000", etcdPolicy(`"preferZone":true`, `{"zone":"eu-1a"}`, "null")},
	{"a live config with a slash behind it", "bad-key", "slash", "_grpc_config/acme/pear/",
		unleased(noPolicy).with("acme/pear")},
	{"a live config for a key that is spelled otherwise", "orphan-config",
		"acme/pop-lar, but no instance", "_grpc_config/acme/pop-lar",
		unleased(noPolicy).with("acme/poplar")},
	{"a live config on a lease", "expiring", "the live config is on a lease",
		"_grpc_config/acme/rose", entry(noPolicy).with("acme/rose")},
	{"a live config that is too large", "bad-config", "clients refuse the live config",
		"_grpc_config/acme/sage",
		policy(`{"methodConfig":[{"name":[{"service":"` + strings.Repeat("s", 256<<10) + `"}]}]}`)},
	{"the health of a service that is not there", "unserved-method", `warning methodConfig or healthCheckConfig of the live config names what no instance serves: ["acme.Vyne"]`, "_grpc_config/acme/vine",
		policy(`{"healthCheckConfig":{"serviceName":"acme.Vyne"}}`,
			`{"grpc_methods":"acme.Vine/Get"}`)},
	{"that service, of which the health service does not know", "not-serving",
		`does not know "acme.Vyne"`, "acme/vine/vine-1:9000", func(*planted, string) {}},
	{"a start in the future", "metadata", `start time "7767225600"`, "acme/ilex/10.1.56.2:9000",
		says(`{"grpc_started":"7767225600"}`)},
	{"a lane without routes", "lane",
		"warning 1 instance has a lane, and the live config has no routes",
		"acme/walnut/walnut-2:9000",
		etcdPolicy(`"childPolicy":[{"etcd_weighted":{}}]`, "null", `{"lane":"pr-7"}`)},
	{"a candidate of a service without entries", "leader", `"nobody", which has no entry`,
		"_grpc_leader/acme/yew//one", entry("nobody")},
	{"a leader whose entry is leaving", "leader",
		`"cypress-1:9000", which has no entry that clients call`, "_grpc_leader/acme/cypress//one",
		entry("cypress-1:9000").with("acme/cypress", leaving, "null")},
	{"versions in no group of a split", "no-match", "4 instances are in no group of the split", "acme/birch2/birch2-5:9000",
		etcdPolicy(`"split":[{"match":{"version":"v1"},"weight":1}]`, `{"version":"v1"}`,
			`{"version":"V1"}`, `{"version":"1"}`, "null", "null")},
	{"only leaving entries", "empty", "all 2 entries are being withdrawn", "acme/zelkova/",
		func(f *planted, _ string) { f.instances("acme/zelkova", leaving, leaving) }},
	{"a leaving entry on a renewed lease", "leaving", "10.1.78.1:9000 is marked as being withdrawn, and stays", "acme/acacia/10.1.78.1:9000", func(
		f *planted,
		at string,
	) {
		f.instances("acme/acacia")
		putKey(f.t, f.etcd, f.namespace+at, `{"Addr":"10.1.78.1:9000","Metadata":`+leaving+`}`,
			renewed(f.t, f.etcd))
	}},
	{"an IPv6 address without brackets", "malformed", "an IPv6 host in brackets", "acme/ash/one",
		entry("2001:db8::7:9000").with("acme/ash")},
	{"a kratos entry without a gRPC endpoint", "malformed", "kratos entry", "acme/banyan/one",
		entry(`{"id":"one","name":"banyan","endpoints":["http://10.1.80.2:80"]}`).with(
			"acme/banyan")},
	{"the address of a link", "local-address", "means a host on the caller's own link",
		"acme/beech/169.254.7.7:9000", instance()},
	{"one of several that speaks plaintext", "transport", "1 of 3 instances speak plaintext",
		"acme/jujube/10.1.36.3:9000", instance("plain").with("acme/jujube", "null", "null")},
	{"one of several that wants a client certificate", "transport",
		"1 of 3 instances speak mutual TLS", "acme/juneberry/10.1.36.5:9000",
		instance("mutual").with("acme/juneberry", "null", "null")},
	{"a server that speaks plaintext, and is not serving", "not-serving", `"acme.Jarrah"`,
		"acme/jarrah/10.1.36.4:9000", says(`{"grpc_methods":"acme.Jarrah/Get"}`, "plainly")},
	{"a zone in capitals", "zone", `"eu-1A" (1 entry) is spelled almost as "eu-1a" (2 entries)`,
		"acme/oleander/10.1.81.1:9000",
		says(`{"zone":"eu-1A"}`).with("acme/oleander", `{"zone":"eu-1a"}`, `{"zone":"eu-1b"}`)},
}

const (
	noPolicy = `{"methodConfig":[]}` // a live config without settings
	leaving  = `{"grpc_leaving":"true"}`
)

// TestDoctor_Faults plants all faults, and checks that doctor finds each of
// them and nothing else.
func TestDoctor_Faults(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	y := newYard(t)

	byTimeout := make(map[string][]fault)
	for _, tt := range faults {
		timeout := "1m"

		switch {
		case strings.Contains(tt.problem, "within "+hangTime):
			timeout = hangTime
		case tt.kind == "expiring", strings.Contains(tt.problem, "nobody renews"): // a separate run: doctor must finish before the lease ends
			timeout = "59s"
		}

		byTimeout[timeout] = append(byTimeout[timeout], tt)
	}

	for timeout, all := range byTimeout {
		t.Run("within "+timeout, func(t *testing.T) {
			t.Parallel()

			f := newFleet(t, etcd, y, timeout+"/")
			for _, tt := range all {
				tt.plant(f, tt.where)
			}

			f.wantFaults([]string{"--deep", "--service-cacert", y.caFile, "--probe-timeout",
				timeout}, all...)
		})
	}
}

// hangTime is the probe timeout for hanging servers.
const hangTime = "3s"

// wantFaults checks that doctor finds each of the faults once, and no others.
func (f *planted) wantFaults(args []string, faults ...fault) {
	f.t.Helper()

	found, _ := f.doctor(args...)
	left := found.Findings
	for _, tt := range faults {
		at := slices.IndexFunc(left, tt.matches)
		if at < 0 {
			f.t.Errorf("%s is not found: want a finding of kind %s with %q at %s", tt.name,
				tt.kind, tt.problem, tt.where)
			continue
		}

		left = slices.Delete(left, at, at+1)
	}

	for _, one := range left {
		f.t.Errorf("doctor finds %+v, want only the planted faults", one)
	}

	checkRemedies(f.t, found)
}

// matches reports whether a finding reports the fault.
func (f fault) matches(found doctor.Finding) bool {
	at := func(key string) bool { return strings.HasSuffix(key, f.where) }
	return found.Kind == f.kind && strings.Contains(fmt.Sprint(found.Severity, " ", found.Problem,
		": ", found.Fix), f.problem) && slices.ContainsFunc(found.Where, at)
}

// checkRemedies fails if a remedy deletes the entry of a living server or lacks
// the namespace, or a problem shows Go types.
func checkRemedies(t *testing.T, found doctor.Report) {
	t.Helper()

	for _, f := range found.Findings {
		if strings.Contains(f.Fix, "etcdctl del") && f.Kind != "unreachable" && f.Kind != "leader" {
			t.Errorf("the remedy deletes the entry of a living server: %+v", f)
		}

		for at, text := range strings.Split(f.Fix, "etcdrpc ") {
			word, _, _ := strings.Cut(text, " FILE")
			if at > 0 &&
				strings.Contains(word, "acme/") &&
				!strings.Contains(word, "--namespace=") {
				t.Errorf("the remedy lacks --namespace: %+v", f)
			}
		}

		for _, inside := range []string{"uint32", "float64", "Go value", "struct"} {
			if strings.Contains(f.Problem, inside) {
				t.Errorf("the problem shows the Go term %q: %+v", inside, f)
			}
		}
	}
}
