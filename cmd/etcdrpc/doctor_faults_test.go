package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// fault is one thing that is wrong with a fleet, and how doctor tells of it.
type fault struct {
	name  string
	kind  doctor.Kind
	says  string // in the problem
	where string // the end of one of the keys
	plant func(f *planted)
}

// faults are planted each by itself, and all together.
var faults = []fault{
	{"an entry of no layout beside a good one", doctor.KindMalformed, `address "10.1.1.2"`, "acme/alpha/old", func(f *planted) {
		f.instance("acme/alpha", "10.1.1.1:9000")
		f.lease("acme/alpha/old", "10.1.1.2")
	}},
	{"a candidate without an entry", doctor.KindLeader, `"gone", which has no entry`, "acme/led//one", func(f *planted) {
		f.instance("acme/led", "10.1.1.9:9000")
		f.lease("_grpc_leader/acme/led//one", "gone")
	}},
	{"an instance that has yet to start", doctor.KindStarted, "it will start in", "acme/early/10.1.1.8:9000", func(f *planted) {
		f.says("acme/early", "10.1.1.8:9000", fmt.Sprintf(`{"grpc_started":"%d"}`, time.Now().Add(time.Hour).Unix()))
	}},
	{"a service whose only entry is malformed", doctor.KindMalformed, "want a port", "acme/bravo/one",
		func(f *planted) { f.lease("acme/bravo/one", `{"Addr":"10.1.2.1:99999"}`) }},
	{"an entry without a lease", doctor.KindNoLease, "no lease", "acme/charlie/10.1.3.2:9000", func(f *planted) {
		f.instance("acme/charlie", "10.1.3.1:9000")
		f.put("acme/charlie/10.1.3.2:9000", `{"Addr":"10.1.3.2:9000"}`)
	}},
	{"a lease that nobody renews", doctor.KindExpiring, "accepts connections", "acme/delta/10.1.4.1:9000", func(f *planted) {
		f.dying("acme/delta/10.1.4.1:9000", `{"Addr":"10.1.4.1:9000"}`)
		f.dying("acme/delta-left@", "10.1.4.2:9000") // what an earlier run of a server left behind goes with its lease
		f.lease("acme/delta-left@", "10.1.4.2:9000")
	}},
	{"a server that is not there", doctor.KindUnreachable, "10.1.5.1:9000 accepts no connection", "acme/echo/10.1.5.1:9000",
		func(f *planted) { f.instance("acme/echo", "10.1.5.1:9000", "") }},
	{"a server that died", doctor.KindUnreachable, "nobody renews its lease", "acme/foxtrot/10.1.6.1:9000", func(f *planted) {
		f.dying("acme/foxtrot/10.1.6.1:9000", `{"Addr":"10.1.6.1:9000"}`)
		f.route("10.1.6.1:9000", "")
	}},
	{"two instances at one address", doctor.KindDuplicate, "2 entries say that they are at 10.1.7.1:9000", "acme/golf/two", func(f *planted) {
		f.lease("acme/golf/one", `{"Addr":"10.1.7.1:9000"}`)
		f.lease("acme/golf/two", `{"Addr":"10.1.7.1:9000"}`)
	}},
	{"two layouts", doctor.KindMixedLayouts, "written in 2 layouts", "acme/hotel/10.1.8.2:9000", func(f *planted) {
		f.instance("acme/hotel", "10.1.8.1:9000")
		f.lease("acme/hotel/10.1.8.2:9000", "10.1.8.2:9000")
	}},
	{"a key with a double slash", doctor.KindBadKey, "double slash", "acme//india", func(f *planted) { f.instance("acme//india", "10.1.9.1:9000") }},
	{"a service below another", doctor.KindNestedKey, "acme/juliett/eu lies below acme/juliett", "acme/juliett/eu/", func(f *planted) {
		f.instance("acme/juliett", "10.1.10.1:9000")
		f.instance("acme/juliett/eu", "10.1.10.2:9000")
	}},
	{"a neighbour in the range of the lease suffix", doctor.KindNeighbour, "kilo-admin begins like", "acme/kilo-admin", func(f *planted) {
		f.lease("acme/kilo@", "10.1.11.1:9000")
		f.instance("acme/kilo-admin", "10.1.11.2:9000")
	}},
	{"a neighbour that kratos cannot read", doctor.KindNeighbour, "kratos' reader", "acme/lima-pay", func(f *planted) {
		f.lease("acme/lima/1", `{"id":"1","name":"lima","version":"","metadata":{},"endpoints":["grpc://10.1.12.1:9000"]}`)
		f.lease("acme/lima-pay/10.1.12.2:9000", "10.1.12.2:9000")
	}},
	{"a neighbour that goes on with a digit", doctor.KindNeighbour, "continues", "acme/mike2", func(f *planted) {
		f.lease("acme/mike@", "10.1.13.1:9000")
		f.instance("acme/mike2", "10.1.13.2:9000")
	}},
	{"a key with a slash before it beside one without", doctor.KindTLSName, `"/acme/november", "acme/november"`, "/acme/november/", func(f *planted) {
		f.instance("acme/november", "10.1.14.1:9000")
		f.instance("/acme/november", "10.1.14.2:9000")
	}},
	{"a key with capitals beside one without", doctor.KindTLSName, `"Acme/Oscar", "acme/oscar"`, "Acme/Oscar/", func(f *planted) {
		f.instance("acme/oscar", "10.1.15.1:9000")
		f.instance("Acme/Oscar", "10.1.15.2:9000")
	}},
	{"a policy that does not exist", doctor.KindBadPolicy, `no policy is named "round_robbin"`, "_grpc_config/acme/papa", func(f *planted) {
		f.instance("acme/papa", "10.1.16.1:9000")
		f.policy("acme/papa", `{"loadBalancingConfig":[{"round_robbin":{}}]}`)
	}},
	{"a drain of everything", doctor.KindBadPolicy, "names the only endpoint and is ignored", "_grpc_config/acme/sierra", func(f *planted) {
		f.instance("acme/sierra", "10.1.19.1:9000")
		f.etcdPolicy("acme/sierra", `"drain":["10.1.19.1:9000"]`)
	}},
	{"a policy that clients do not link", doctor.KindUnlinked, "outlierdetection", "_grpc_config/acme/tango", func(f *planted) {
		f.instance("acme/tango", "10.1.20.1:9000")
		f.policy("acme/tango", `{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"round_robin":{}}]}}]}`)
	}},
	{"a split with an empty group", doctor.KindNoMatch, `split[1], of weight 1, {"version":"v2"}`, "_grpc_config/acme/uniform", func(f *planted) {
		f.says("acme/uniform", "10.1.21.1:9000", `{"version":"v1"}`)
		f.etcdPolicy("acme/uniform", `"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1}]`)
	}},
	{"a drain of nothing", doctor.KindNoMatch, `"10.1.22.9:9000"`, "_grpc_config/acme/victor", func(f *planted) {
		f.instance("acme/victor", "10.1.22.1:9000")
		f.etcdPolicy("acme/victor", `"drain":["10.1.22.9:9000"]`)
	}},
	{"a drain by an id that clients do not know", doctor.KindNoMatch, `drains "n1", but clients know 10.1.23.1:9000 as "u1"`, "acme/violet/n1", func(f *planted) {
		for n := range 2 {
			addr := fmt.Sprintf("10.1.23.%d:9000", n+1)
			f.lease(fmt.Sprintf("acme/violet/n%d", n+1), `{"Addr":"`+addr+`","Metadata":{"version":"v1","weight":10}}`)
			f.lease(fmt.Sprintf("acme/violet/u%d", n+1), `{"id":"u`+strconv.Itoa(n+1)+`","name":"violet","version":"v1","metadata":{},"endpoints":["grpc://`+addr+`"]}`)
		}
		f.etcdPolicy("acme/violet", `"drain":["n1"]`)
	}},
	{"a policy without a service", doctor.KindOrphanPolicy, "acme/whiskey, but no instance", "_grpc_config/acme/whiskey",
		func(f *planted) { f.policy("acme/whiskey", `{"methodConfig":[]}`) }},
	{"a timeout for a service that is not served", doctor.KindUnserved, `"acme.Xrai"`, "_grpc_config/acme/xray", func(f *planted) {
		f.says("acme/xray", "10.1.24.1:9000", `{"grpc_methods":"acme.Xray/Get,List"}`)
		f.policy("acme/xray", `{"methodConfig":[{"name":[{"service":"acme.Xrai"}],"timeout":"1s"},{"name":[{"service":"acme.Xray","method":"Get"}],"timeout":"1s"}]}`)
	}},
	{"a timeout for a method that is not served", doctor.KindUnserved, `"acme.Xylo/Gte"`, "_grpc_config/acme/xylo", func(f *planted) {
		f.says("acme/xylo", "10.1.24.2:9000", `{"grpc_methods":"acme.Xylo/Get,List"}`)
		f.policy("acme/xylo", `{"methodConfig":[{"name":[{"service":"acme.Xylo","method":"Gte"}],"timeout":"1s"},{"name":[{}],"timeout":"2s"}]}`)
	}},
	{"a lane without an instance", doctor.KindLane, "matches no endpoint", "_grpc_config/acme/yankee", func(f *planted) {
		f.instance("acme/yankee", "10.1.25.1:9000")
		f.etcdPolicy("acme/yankee", `"route":[{"lane":"beta","match":{"version":"v2"}}]`)
	}},
	{"the address 0.0.0.0", doctor.KindLocal, "0.0.0.0:9000 means", "acme/zulu/0.0.0.0:9000", func(f *planted) { f.instance("acme/zulu", "0.0.0.0:9000") }},
	{"a loopback address in a fleet of several hosts", doctor.KindLocal, "127.0.0.1:9000 means", "acme/cedar/127.0.0.1:9000", func(f *planted) { f.instance("acme/cedar", "127.0.0.1:9000") }},
	{"a port that speaks HTTP/1", doctor.KindNotGRPC, "speaks HTTP/1", "acme/dogwood/10.1.30.1:9000",
		func(f *planted) { f.instance("acme/dogwood", "10.1.30.1:9000", f.yard.http1) }},
	{"a server that is not serving", doctor.KindNotServing, "10.1.32.1:9000 says that it is not serving", "acme/fir/10.1.32.1:9000",
		func(f *planted) { f.instance("acme/fir", "10.1.32.1:9000", f.yard.notServing) }},
	{"a service that is not serving, of a server that is", doctor.KindNotServing, `not serving: "acme.Grape"`, "acme/grape/10.1.37.1:9000",
		func(f *planted) {
			f.says("acme/grape", "10.1.37.1:9000", `{"grpc_methods":"acme.Fig/Get;acme.Grape/Get"}`, f.yard.partly)
		}},
	{"the last of many services", doctor.KindNotServing, `not serving: "acme.S9"`, "acme/quince/10.1.43.1:9000",
		func(f *planted) {
			f.says("acme/quince", "10.1.43.1:9000", `{"grpc_methods":"acme.S1/Get;acme.S2/Get;acme.S3/Get;acme.S4/Get;acme.S5/Get;acme.S6/Get;acme.S7/Get;acme.S8/Get;acme.S9/Get"}`, f.yard.many)
		}},
	{"a service whose check hangs", doctor.KindNotServing, `fails gRPC's health check with no answer within ` + hangTime + `: "acme.Rowan"`, "acme/rowan/10.1.44.1:9000",
		func(f *planted) {
			f.says("acme/rowan", "10.1.44.1:9000", `{"grpc_methods":"acme.Rowan/Get"}`, f.yard.forgetful)
		}},
	{"a proxy without an upstream", doctor.KindNotServing, `fails gRPC's health check with Unavailable ("no healthy upstream"): the server as a whole`, "acme/sorrel/10.1.45.1:9000",
		func(f *planted) {
			f.says("acme/sorrel", "10.1.45.1:9000", `{"grpc_methods":"acme.Sorrel/Get"}`, f.yard.idle)
		}},
	{"a web server", doctor.KindNotGRPC, "answers gRPC with HTTP status 404", "acme/fig/10.1.38.1:9000",
		func(f *planted) { f.instance("acme/fig", "10.1.38.1:9000", f.yard.http2) }},
	{"a health check that hangs over TLS", doctor.KindNotServing, "10.1.40.1:9000 speaks HTTP/2, but did not answer gRPC's health check within " + hangTime, "acme/maple/10.1.40.1:9000",
		func(f *planted) { f.instance("acme/maple", "10.1.40.1:9000", f.yard.hanging) }},
	{"TLS with HTTP/1 alone", doctor.KindNotGRPC, `refuses HTTP/2 over TLS (ALPN h2) for the name "acme.myrtle": tls: no application protocol`, "acme/myrtle/10.1.41.1:9000",
		func(f *planted) { f.instance("acme/myrtle", "10.1.41.1:9000", f.yard.noHTTP2) }},
	{"TLS for another name alone", doctor.KindNotGRPC, `refuses HTTP/2 over TLS (ALPN h2) for the name "acme.nutmeg": tls: `, "acme/nutmeg/10.1.42.1:9000",
		func(f *planted) { f.instance("acme/nutmeg", "10.1.42.1:9000", f.yard.choosy) }},
	{"a certificate that has expired", doctor.KindCertificate, "expired at", "acme/gum/10.1.33.1:9000",
		func(f *planted) { f.instance("acme/gum", "10.1.33.1:9000", f.yard.expired) }},
	{"a certificate for another name", doctor.KindCertificate, `"somebody.else", not for acme.hazel`, "acme/hazel/10.1.34.1:9000",
		func(f *planted) { f.instance("acme/hazel", "10.1.34.1:9000", f.yard.misnamed) }},
	{"a certificate for an identity alone", doctor.KindCertificate, `the identity "spiffe://acme/fir" and no host name, so clients that verify the name acme.willow,`, "acme/willow/10.1.47.1:9000",
		func(f *planted) { f.instance("acme/willow", "10.1.47.1:9000", f.yard.identified) }},
	{"a certificate of another authority", doctor.KindCertificate, "unknown authority", "acme/iroko/10.1.35.1:9000",
		func(f *planted) { f.instance("acme/iroko", "10.1.35.1:9000", f.yard.foreign) }},
	{"an address of another service's server", doctor.KindWrongService, `10.1.50.1:9000 is that of another server now: it knows nothing of what its entry publishes: "acme.Aspen"`, "acme/aspen/10.1.50.1:9000",
		func(f *planted) {
			f.says("acme/aspen", "10.1.50.1:9000", `{"grpc_methods":"acme.Aspen/Get"}`, f.yard.other)
		}},
	{"a version in no group of a split", doctor.KindNoMatch, "1 instance is in no group of the split", "acme/birch/10.1.51.2:9000", func(f *planted) {
		f.says("acme/birch", "10.1.51.1:9000", `{"version":"v1"}`)
		f.says("acme/birch", "10.1.51.2:9000", `{"version":"v2"}`)
		f.etcdPolicy("acme/birch", `"split":[{"match":{"version":"v1"},"weight":1}]`)
	}},
	{"a group that an earlier one takes all of", doctor.KindNoMatch, `split[1], of weight 9, {"version":"v1","zone":"a"}`, "_grpc_config/acme/box", func(f *planted) {
		f.says("acme/box", "10.1.52.1:9000", `{"version":"v1","zone":"a"}`)
		f.etcdPolicy("acme/box", `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v1","zone":"a"},"weight":9}]`)
	}},
	{"a drain that empties a group of a split", doctor.KindDrain, `get 99 of its 100 parts of the calls, too: split[0], of weight 99, {"version":"v1"}`, "_grpc_config/acme/cherry", func(f *planted) {
		f.says("acme/cherry", "10.1.53.1:9000", `{"version":"v1"}`)
		f.says("acme/cherry", "10.1.53.9:9000", `{"version":"v3"}`)
		f.says("acme/cherry", "10.1.53.2:9000", `{"version":"v2"}`)
		f.etcdPolicy("acme/cherry", `"split":[{"match":{"version":"v1"},"weight":99},{"match":{"version":"v2"},"weight":1}],"drain":["10.1.53.9:9000","10.1.53.1:9000"]`)
	}},
	{"a drain of before", doctor.KindDrain, `holds for what has registered since, which may be another server: "10.1.54.1:9000"`, "acme/elder/10.1.54.1:9000", func(f *planted) {
		f.instance("acme/elder", "10.1.54.2:9000")
		f.etcdPolicy("acme/elder", `"drain":["10.1.54.1:9000"]`)
		f.instance("acme/elder", "10.1.54.1:9000")
	}},
	{"a lease of a year", doctor.KindNoLease, "on a lease of 365d", "acme/hawthorn/10.1.55.1:9000", func(f *planted) {
		f.putOn("acme/hawthorn/10.1.55.1:9000", `{"Addr":"10.1.55.1:9000"}`, 365*24*3600)
	}},
	{"a start that is no time", doctor.KindMetadata, `started at "1767225600000"`, "acme/ivy/10.1.56.1:9000",
		func(f *planted) { f.says("acme/ivy", "10.1.56.1:9000", `{"grpc_started":"1767225600000"}`) }},
	{"a weight that is none", doctor.KindMetadata, `weight "heavy"`, "acme/jasmine/10.1.57.1:9000",
		func(f *planted) { f.says("acme/jasmine", "10.1.57.1:9000", `{"weight":"heavy"}`) }},
	{"a weight that is no whole number", doctor.KindMetadata, `weight "9.5"`, "acme/kauri/10.1.58.1:9000",
		func(f *planted) { f.says("acme/kauri", "10.1.58.1:9000", `{"weight":9.5}`) }},
	{"methods that nobody reads", doctor.KindMetadata, "more than the 16384 that callers read", "acme/larch/10.1.59.1:9000",
		func(f *planted) {
			f.says("acme/larch", "10.1.59.1:9000", `{"grpc_methods":"acme.Larch/`+strings.Repeat("Get,", 5000)+`List"}`)
		}},
	{"a weight for all calls", doctor.KindMetadata, "10.1.60.3:9000 has the weight 100000, and so 100 % of the calls to 3 instances", "acme/linden/10.1.60.3:9000", func(f *planted) {
		for n, weight := range []string{"100", "100", "100000"} {
			f.says("acme/linden", fmt.Sprintf("10.1.60.%d:9000", n+1), `{"weight":`+weight+`}`)
		}
		f.etcdPolicy("acme/linden", `"childPolicy":[{"etcd_weighted":{}}]`)
	}},
	{"zones that differ by case", doctor.KindNoMatch, `"eu-1a" and "EU-1a" are two zones`, "acme/mango/10.1.61.2:9000", func(f *planted) {
		f.says("acme/mango", "10.1.61.1:9000", `{"zone":"eu-1a"}`)
		f.says("acme/mango", "10.1.61.2:9000", `{"zone":"EU-1a"}`)
		f.etcdPolicy("acme/mango", `"preferZone":true`)
	}},
	{"no zones beside preferZone", doctor.KindNoMatch, "no instance says its zone", "_grpc_config/acme/mulberry", func(f *planted) {
		f.instance("acme/mulberry", "10.1.62.1:9000")
		f.etcdPolicy("acme/mulberry", `"preferZone":true`)
	}},
	{"one without a zone beside preferZone", doctor.KindNoMatch, "1 of 2 instances say none", "acme/oak/10.1.63.2:9000", func(f *planted) {
		f.says("acme/oak", "10.1.63.1:9000", `{"zone":"eu-1a"}`)
		f.instance("acme/oak", "10.1.63.2:9000")
		f.etcdPolicy("acme/oak", `"preferZone":true`)
	}},
	{"a certificate in its last hours", doctor.KindCertificateEnds, "a certificate ends in 2 hours", "acme/olive/10.1.64.1:9000",
		func(f *planted) { f.instance("acme/olive", "10.1.64.1:9000", f.yard.ending) }},
	{"a certificate that is not valid yet", doctor.KindCertificate, "not valid before", "acme/palm/10.1.65.1:9000",
		func(f *planted) { f.instance("acme/palm", "10.1.65.1:9000", f.yard.early) }},
	{"a live policy behind a slash", doctor.KindStray, `those of the service read "`, "/_grpc_config/acme/pine", func(f *planted) {
		f.instance("acme/pine", "10.1.66.1:9000")
		f.put("/_grpc_config/acme/pine", `{"methodConfig":[]}`)
	}},
	{"a live policy behind another word", doctor.KindStray, `_grpc_config/acme/pine2"`, "grpc-configs/acme/pine2", func(f *planted) {
		f.instance("acme/pine2", "10.1.66.2:9000")
		f.put("grpc-configs/acme/pine2", `{"methodConfig":[]}`)
	}},
	{"a live policy outside of its namespace", doctor.KindStray, `blue/_grpc_config/acme/plum"`, "_grpc_config/blue/acme/plum", func(f *planted) {
		f.instance("blue/acme/plum", "10.1.67.1:9000")
		f.put("blue/_grpc_config/acme/other", `{"methodConfig":[]}`)
		f.policy("blue/acme/plum", `{"methodConfig":[]}`)
	}},
	{"a live policy with a slash behind it", doctor.KindBadKey, "slash", "_grpc_config/acme/pear/", func(f *planted) {
		f.instance("acme/pear", "10.1.68.1:9000")
		f.policy("acme/pear/", `{"methodConfig":[]}`)
	}},
	{"a live policy for a key that is spelled otherwise", doctor.KindOrphanPolicy, "acme/pop-lar, but no instance", "_grpc_config/acme/pop-lar", func(f *planted) {
		f.instance("acme/poplar", "10.1.69.1:9000")
		f.policy("acme/pop-lar", `{"methodConfig":[]}`)
	}},
	{"a live policy on a lease", doctor.KindExpiring, "the live policy hangs on a lease", "_grpc_config/acme/rose", func(f *planted) {
		f.instance("acme/rose", "10.1.70.1:9000")
		f.lease("_grpc_config/acme/rose", `{"methodConfig":[]}`)
	}},
	{"a live policy that is too large", doctor.KindBadPolicy, "clients do not go by the live policy", "_grpc_config/acme/sage", func(f *planted) {
		f.instance("acme/sage", "10.1.71.1:9000")
		f.policy("acme/sage", `{"methodConfig":[{"name":[{"service":"`+strings.Repeat("s", 256<<10)+`"}]}]}`)
	}},
	{"a timeout that nothing can meet", doctor.KindMethodConfig, "gives calls 0.000050s", "_grpc_config/acme/spruce", func(f *planted) {
		f.instance("acme/spruce", "10.1.72.1:9000")
		f.policy("acme/spruce", `{"methodConfig":[{"name":[{}],"timeout":"0.00005s"}]}`)
	}},
	{"messages of no bytes", doctor.KindMethodConfig, "allows messages of 0 bytes", "_grpc_config/acme/teak", func(f *planted) {
		f.instance("acme/teak", "10.1.73.1:9000")
		f.policy("acme/teak", `{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":0}]}`)
	}},
	{"retries of all codes", doctor.KindMethodConfig, "made 3 times that the server calls wrong in themselves: INVALID_ARGUMENT", "_grpc_config/acme/thyme", func(f *planted) {
		f.instance("acme/thyme", "10.1.74.1:9000")
		f.policy("acme/thyme", `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","INVALID_ARGUMENT","UNAUTHENTICATED"]}}]}`)
	}},
	{"the health of a service that is not there", doctor.KindUnserved, `names "acme.Vyne", of which 1 of 1 instances know no health`, "_grpc_config/acme/vine", func(f *planted) {
		f.says("acme/vine", "10.1.75.1:9000", `{"grpc_methods":"acme.Vine/Get"}`)
		f.policy("acme/vine", `{"healthCheckConfig":{"serviceName":"acme.Vyne"}}`)
	}},
	{"a lane without routes", doctor.KindLane, "1 instance says its lane, and the live policy has no routes", "acme/walnut/10.1.76.2:9000", func(f *planted) {
		f.instance("acme/walnut", "10.1.76.1:9000")
		f.says("acme/walnut", "10.1.76.2:9000", `{"lane":"pr-7"}`)
		f.etcdPolicy("acme/walnut", `"drain":[]`)
	}},
	{"a candidate of a service without entries", doctor.KindLeader, `"nobody", which has no entry`, "acme/yew//one",
		func(f *planted) { f.lease("_grpc_leader/acme/yew//one", "nobody") }},
	{"a leader that leaves for ever", doctor.KindLeader, `"10.1.83.1:9000", which has no entry that clients call`, "acme/cypress//one", func(f *planted) {
		f.says("acme/cypress", "10.1.83.1:9000", `{"grpc_leaving":"true"}`)
		f.instance("acme/cypress", "10.1.83.2:9000")
		f.lease("_grpc_leader/acme/cypress//one", "10.1.83.1:9000")
	}},
	{"versions in no group of a split", doctor.KindNoMatch, "2 instances are in no group of the split", "acme/birch2/10.1.51.4:9000", func(f *planted) {
		for n, version := range []string{"v1", "V1", "1"} {
			f.says("acme/birch2", fmt.Sprintf("10.1.51.%d:9000", n+3), `{"version":"`+version+`"}`)
		}
		f.etcdPolicy("acme/birch2", `"split":[{"match":{"version":"v1"},"weight":1}]`)
	}},
	{"nobody but who leaves", doctor.KindEmpty, "all 2 entries are being withdrawn", "acme/zelkova/", func(f *planted) {
		f.says("acme/zelkova", "10.1.77.1:9000", `{"grpc_leaving":"true"}`)
		f.says("acme/zelkova", "10.1.77.2:9000", `{"grpc_leaving":"true"}`)
	}},
	{"an entry that leaves for ever", doctor.KindLeaving, "10.1.78.1:9000 is marked as being withdrawn, and stays", "acme/acacia/10.1.78.1:9000", func(f *planted) {
		f.instance("acme/acacia", "10.1.78.2:9000")
		putKey(f.t, f.etcd, f.namespace+"acme/acacia/10.1.78.1:9000", `{"Addr":"10.1.78.1:9000","Metadata":{"grpc_leaving":"true"}}`, renewed(f.t, f.etcd))
	}},
	{"an IPv6 address without brackets", doctor.KindMalformed, "an IPv6 host in brackets", "acme/ash/one", func(f *planted) {
		f.instance("acme/ash", "10.1.81.1:9000")
		f.lease("acme/ash/one", "2001:db8::7:9000")
	}},
	{"an IPv6 address without brackets that is one", doctor.KindMetadata, "without brackets, 9000 is no port of 2001:db8::8", "acme/aster/10.1.82.1:9000", func(f *planted) {
		f.lease("acme/aster/10.1.82.1:9000", `{"Addr":"2001:db8::8:9000"}`)
	}},
	{"port 0", doctor.KindMalformed, "want a port", "acme/balsa/one", func(f *planted) { f.lease("acme/balsa/one", `{"Addr":"10.1.80.1:0"}`) }},
	{"the address of a group", doctor.KindLocal, "239.1.1.1:9000 means", "acme/bamboo/239.1.1.1:9000", func(f *planted) { f.instance("acme/bamboo", "239.1.1.1:9000") }},
	{"the address of a link", doctor.KindLocal, "means a host on the caller's own link", "acme/beech/169.254.7.7:9000", func(f *planted) { f.instance("acme/beech", "169.254.7.7:9000") }},
	{"plaintext where clients use TLS", doctor.KindTransport, "10.1.36.1:9000 speaks plaintext where clients use TLS", "acme/juniper/10.1.36.1:9000",
		func(f *planted) { f.instance("acme/juniper", "10.1.36.1:9000", f.yard.plain) }},
}

// plantHealthy puts in place what nothing is wrong with.
func plantHealthy(f *planted) {
	f.says("acme/user", "10.9.1.1:9000", `{"version":"v1","weight":9}`)
	f.says("acme/user", "10.9.1.2:9000", `{"version":"v2"}`)
	f.etcdPolicy("acme/user", `"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1}]`)
	f.lease("acme/order/10.9.2.1:9000", "10.9.2.1:9000")
}

// TestDoctor_Faults plants each fault by itself and then all, and wants them found and nothing else.
func TestDoctor_Faults(t *testing.T) {
	t.Parallel()
	etcd, y := etcdtest.Start(t), newYard(t)
	look := func(t *testing.T, namespace, timeout string, faults ...fault) {
		f := newFleet(t, etcd, y, namespace)
		plantHealthy(f)
		for _, tt := range faults {
			tt.plant(f)
		}
		f.finds([]string{"--deep", "--service-cacert", y.caFile, "--probe-timeout", timeout}, faults...)
	}
	// What hangs is planted apart, for it alone takes the time that instances have: all others have as much as they need.
	together := make(map[string][]fault)
	for n, tt := range faults {
		timeout := "1m"
		if strings.Contains(tt.says, "within "+hangTime) {
			timeout = hangTime
		}
		together[timeout] = append(together[timeout], tt)
		t.Run(tt.name, func(t *testing.T) {
			night(t)
			t.Parallel()
			look(t, fmt.Sprintf("fleet%d/", n), timeout, tt)
		})
	}
	for timeout, all := range together {
		t.Run("all within "+timeout, func(t *testing.T) {
			t.Parallel()
			look(t, "all-"+timeout+"/", timeout, all...)
		})
	}
}

// hangTime is how long what hangs is waited for.
const hangTime = "3s"

// finds wants each of some faults found once, and nothing else.
func (f *planted) finds(args []string, faults ...fault) {
	f.t.Helper()
	found, _ := f.doctor(args...)
	left := found.Findings
	for _, tt := range faults {
		at := slices.IndexFunc(left, tt.is)
		if at < 0 {
			f.t.Errorf("%s is not found: want %s with %q at %s", tt.name, tt.kind, tt.says, tt.where)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	for _, one := range left {
		f.t.Errorf("invented: %+v", one)
	}
	checkRemedies(f.t, found)
}

// is reports whether a finding tells of the fault.
func (f fault) is(found doctor.Finding) bool {
	at := func(key string) bool { return strings.HasSuffix(key, f.where) }
	return found.Kind == f.kind && strings.Contains(found.Problem, f.says) && slices.ContainsFunc(found.Where, at)
}

// checkRemedies fails if a finding advises to delete what lives, or shows the insides of the program.
func checkRemedies(t *testing.T, found doctor.Report) {
	t.Helper()
	for _, f := range found.Findings {
		if strings.Contains(f.Fix, "etcdctl del") && f.Kind != doctor.KindUnreachable {
			t.Errorf("a remedy deletes a living entry: %+v", f)
		}
		for at, text := range strings.Split(f.Fix, "etcdrpc ") {
			if word, _, _ := strings.Cut(text, " FILE"); at > 0 && strings.Contains(word, "acme/") && !strings.Contains(word, "--namespace=") {
				t.Errorf("a remedy leaves the namespace out: %+v", f)
			}
		}
		for _, inside := range []string{"uint32", "float64", "Go value", "struct"} {
			if strings.Contains(f.Problem, inside) {
				t.Errorf("a problem shows %q: %+v", inside, f)
			}
		}
	}
}
