package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/adopt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

const someLease = 7587882123456789012

// entriesFrom makes entries of "KEY [@LEASE] VALUE" lines, sorted by key. Without a lease they hang on one of their own.
func entriesFrom(text string) (entries []survey.Entry) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		e := survey.Entry{Key: key, Lease: someLease + 1000 + int64(len(entries))}
		if rest, ok := strings.CutPrefix(value, "@"); ok {
			var lease string
			lease, value, _ = strings.Cut(rest, " ")
			_, _ = fmt.Sscan(lease, &e.Lease)
		}
		e.Value = []byte(value)
		entries = append(entries, e)
	}
	return sortedOnce(entries)
}

// sortedOnce sorts entries by their keys, each of which is there once, as etcd has them.
func sortedOnce(entries []survey.Entry) []survey.Entry {
	slices.SortFunc(entries, func(a, b survey.Entry) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(entries, func(a, b survey.Entry) bool { return a.Key == b.Key })
}

func asIs(key string) string { return key }

// readOption reads a printed option as the compiler does.
func readOption(t *testing.T, option string) *discoveryv1.ServiceOptions {
	t.Helper()
	body, ok := strings.CutPrefix(option, "option (etcd.discovery.v1.service) = {")
	body, closed := strings.CutSuffix(body, "};\n")
	var opts discoveryv1.ServiceOptions
	if err := prototext.Unmarshal([]byte(body), &opts); err != nil || !ok || !closed {
		t.Fatalf("%v in the option\n%s", err, option)
	}
	return &opts
}

// found lists findings as "kind: part of the problem" for the tables.
func found(p *adopt.Proposal) string {
	var all []string
	for _, f := range p.Findings {
		all = append(all, string(f.Kind)+": "+f.Problem)
	}
	return strings.Join(all, "\n")
}

func TestAdopt_Layouts(t *testing.T) {
	for _, tc := range []struct {
		name, entries string
		want          string // the option's body in one line; "" none
		read          int
		findings      []string // each is in a line of what is found
	}{
		{"etcd's naming", `acme/user/10.0.0.7:9000 {"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"version":"v1"}}`,
			`key: "acme/user"`, 1, nil},
		{"etcd's naming without a port", `my-service/1.2.3.4 {"Addr":"1.2.3.4","Metadata":"..."}`,
			`key: "my-service"`, 1, []string{`change: "Addr" is "1.2.3.4", and is written as "1.2.3.4:443" (1 of 1 entry)`, `change: "Metadata" is a string, and is written as part of an object`}},
		{"plain", "acme/user/10.0.0.7:9000 10.0.0.7:9000", `key: "acme/user" layout: LAYOUT_PLAIN`, 1, nil},
		{"plain by id", "acme/user/a 10.0.0.7:9000", `key: "acme/user" layout: LAYOUT_PLAIN`, 1,
			[]string{"instance: 1 entry has a key that does not end in the address"}},
		{"go-zero", "user.rpc/7587882123456789012 @7587882123456789012 10.0.0.7:9000", `key: "user.rpc" layout: LAYOUT_GO_ZERO`, 1, nil},
		{"lease suffix", "hello7587882123456789012 @7587882123456789012 10.0.0.7:9000", `key: "hello" layout: LAYOUT_LEASE_SUFFIX`, 1, nil},
		{"lease suffix without its lease", "hello7587882123456789012 @7587882123456789012 10.0.0.7:9000\nhello7587882123456789013 @0 10.0.0.8:9000",
			`key: "hello" layout: LAYOUT_LEASE_SUFFIX`, 1,
			[]string{"unread: clients would not read the entry: the lease id in the key is not that of its lease (none)", "no-lease: 1 entry has no lease"}},
		{"kratos", `/microservices/user/u1 {"id":"u1","name":"user","version":"v1","metadata":{"weight":"heavy"},"endpoints":["http://10.0.0.7:8000","grpc://10.0.0.7:9000?isSecure=false"]}`,
			`key: "/microservices/user" layout: LAYOUT_KRATOS`, 1,
			[]string{`lost: "endpoints[]" is not written`, `weight: 1 entry has a weight that is not the digits of a whole number up to 4294967295, such as "heavy"`}},
		{"kitex", `kitex/registry-etcd/pay/10.0.0.4:8888 {"network":"tcp","address":"10.0.0.4:8888","weight":10,"tags":null}`,
			`key: "kitex/registry-etcd/pay" layout: LAYOUT_KITEX`, 1, []string{"old-reader: kitex' reader adds an instance without an address"}},
		{"GoFrame", `/service/default/default/user/latest/10.0.0.7:9000 {"protocol":"grpc"}`,
			`key: "/service/default/default/user/latest" layout: LAYOUT_GO_FRAME`, 1, []string{"; it panics at a key that does not end in host:port; it gives up"}},
		{"GoFrame with five addresses and a version", `/service/default/default/user/v1.2/a:1,b:2,c:3,d:4,e:5 {"weight":"3"}`,
			`key: "/service/default/default/user/v1.2" layout: LAYOUT_GO_FRAME`, 1,
			[]string{`version-in-key: the version "v1.2" is in the key, as GoFrame has it`, `that ends in "a:1"`, `change: "weight" is a string, and is written as a number`}},
		{"home-made under GoFrame's five parts", `/service/default/default/user/latest/10.0.0.7:9000 {"endpoint":"10.0.0.7:9000","w":3}`,
			`key: "/service/default/default/user/latest" json_layout: { addr: "endpoint" weight: "w" }`, 1, nil},
		{"GoFrame with another's address", `/service/default/default/user/latest/10.0.0.7:9000 {"db":"10.0.0.9:5432"}`,
			`key: "/service/default/default/user/latest" layout: LAYOUT_GO_FRAME`, 1, []string{"; it panics at a key that does not end in host:port; it gives up"}},
		{"GoFrame without the five parts", `user/10.0.0.7:9000 {"metrics":"10.0.0.7:9100"}`, `key: "user" layout: LAYOUT_GO_FRAME`, 1, []string{"go-frame-key: the key lacks the five parts"}},
		{"go-micro", `/micro/registry/user/u1 {"name":"user","version":"v1","metadata":null,"endpoints":[{"name":"Say.Hello"}],"nodes":[{"id":"u1","address":"10.0.0.7:9000","metadata":{"team":"blue"}}]}`,
			`key: "/micro/registry/user" layout: LAYOUT_GO_MICRO`, 1, []string{`lost: "endpoints" is not written`, `go-micro-name: 1 entry has the name "user", so go-micro's callers call /user.SERVICE/METHOD`, "old-reader: go-micro's reader takes JSON"}},
		{"several versions at one key", "acme/user/h:1 {\"Op\":0,\"Addr\":\"h:1\",\"Metadata\":{\"version\":\"v1\"}}\nacme/user/h:2 {\"Op\":0,\"Addr\":\"h:2\",\"Metadata\":{\"version\":\"v2\"}}", `key: "acme/user"`, 2,
			[]string{`versions: the entries are of 2 versions: "v1" (1), "v2" (1); clients call all of them alike`}},
		{"dubbo", `/services/shop/10.0.0.7:20000 {"ID":"1","ServiceName":"shop","Host":"10.0.0.7","Port":20000,"Enable":true,"Healthy":true,"Metadata":{}}`,
			`key: "/services/shop"`, 1, []string{"read-only: dubbo's entries are read but not written"}},
		{"a tutorial's", `/user/v1/10.0.0.7:9000 {"name":"user","addr":"10.0.0.7:9000","version":"v1","weight":3}`,
			`key: "/user/v1" json_layout: { addr: "addr" version: "version" weight: "weight" }`, 1,
			[]string{"optional: clients read these entries without json_layout", `version-in-key: the version "v1" is in the key`, `lost: "name" is not written`}},
		{"home-made", `acme/user/a {"endpoint":"10.0.0.7:9000","ver":2,"az":"eu","w":"3","labels":{"team":"blue","n":1},"service":"user","id":"a","since":"2020"}`,
			`key: "acme/user" json_layout: { addr: "endpoint" instance: "id" version: "ver" zone: "az" weight: "w" metadata: "labels" name: "service" }`, 1,
			[]string{`change: "labels.n" is a number, and is written as a string`, `lost: "since" is not written`, `change: "ver" is a number, and is written as a string`,
				`change: "w" is a string, and is written as a number (1 of 1 entry)`}},
		{"home-made under its address", `acme/user/10.0.0.7:9000 {"endpoint":"10.0.0.7:9000","w":0.5}`,
			`key: "acme/user" json_layout: { addr: "endpoint" weight: "w" }`, 1, []string{"weight: 1 entry has a weight that is not the digits of a whole number up to 4294967295, such as 0.5"}},
		{"host and port", `acme/user/a {"ip":"10.0.0.7","port":"9000","admin":"10.0.0.7:9001"}`,
			`key: "acme/user" json_layout: { host: "ip" port: "port" }`, 1,
			[]string{`addresses: other fields hold addresses, too: "admin"`, `change: "port" is a string, and is written as a number`}},
		{"dubbo's names alone", `acme/user/a {"Host":"10.0.0.7","Port":9000}`, `key: "acme/user" json_layout: { host: "Host" port: "Port" }`, 1,
			[]string{"optional: ", "instance: "}},
		{"five addresses", `acme/user/x {"a":"h:9001","b":"h:9002","grpc_addr":"h:9003","http":"h:9004","z":"h:9005"}`, `key: "acme/user" json_layout: { addr: "grpc_addr" }`, 1,
			[]string{`addresses: other fields hold addresses, too: "a", "b", "http", and 1 more`}},
		{"ids that are not their own", "acme/user/x {\"at\":\"h:9001\",\"id\":\"user\"}\nacme/user/y {\"at\":\"h:9002\",\"id\":\"user\"}",
			`key: "acme/user" json_layout: { addr: "at" }`, 2, []string{`lost: "id" is not written`}},
		{"an id that is no segment", `acme/user/x {"at":"h:9001","id":"a/b"}`, `key: "acme/user" json_layout: { addr: "at" }`, 1, []string{`lost: "id" is not written`}},
		{"an id beside the key's", `acme/user/x {"at":"h:9001","id":"y"}`, `key: "acme/user" json_layout: { addr: "at" instance: "id" }`, 1,
			[]string{`would not write: for the first it would write one that ends in "y"`}},
		{"an address that is a URL", `acme/user/x {"endpoint":"http://10.0.0.7:9000"}`, "", 0,
			[]string{`unread: clients would not read the entry: json_layout entry: address "http://10.0.0.7:9000": want host:port`}},
		{"mixed", "acme/user/a 10.0.0.7:9000\nacme/user/b 10.0.0.8:9000\nacme/user/c {\"Addr\":\"10.0.0.9:9000\"}",
			`key: "acme/user" layout: LAYOUT_PLAIN`, 3, []string{"mixed-layouts: the entries are in 2 layouts: endpoint_json (1), plain (2)"}},
		{"the lease suffix among others", "hello/h:9001 h:9001\nhello/h:9002 h:9002\nhello7587882123456789012 @7587882123456789012 h:9003", `key: "hello" layout: LAYOUT_PLAIN`, 2,
			[]string{"unread: clients would not read the entry: the lease id follows the key without a slash"}},
		{"too long to be written again", `acme/user/h:9001 {"Op":0,"Addr":"h:9001","Metadata":{"a":"` + strings.Repeat("<", 15_000) + `"}}`, `key: "acme/user"`, 1,
			[]string{"change: the entry cannot be written again: the value would be"}},
		{"one home-made among others", "acme/user/a {\"Op\":0,\"Addr\":\"h:9001\"}\nacme/user/b {\"Op\":0,\"Addr\":\"h:9002\"}\nacme/user/c {\"at\":\"h:9003\"}",
			`key: "acme/user"`, 2, []string{"unread: clients would not read the entry: JSON that names no address"}},
		{"kitex' own are not a home-made one's", "acme/user/h:9001 {\"network\":\"tcp\",\"address\":\"h:9001\",\"weight\":1,\"tags\":null}\n" +
			"acme/user/h:9002 {\"network\":\"tcp\",\"address\":\"h:9002\",\"weight\":1,\"tags\":null}\nacme/user/x {\"address\":\"h:9003\"}",
			`key: "acme/user" layout: LAYOUT_KITEX`, 3, []string{"would not write"}},
		{"a key that is no host", "acme/größe_/a 10.0.0.7:9000", `key: "acme/größe_" layout: LAYOUT_PLAIN authority: "acme.gr--e"`, 1,
			[]string{"authority: the key gives no host that TLS can check"}},
		{"a key of signs", "漢字/a 10.0.0.7:9000", `key: "漢字" layout: LAYOUT_PLAIN authority: "service"`, 1, []string{"authority"}},
		{"a key that is none", "acme//user/a 10.0.0.7:9000", "", 0, []string{"bad-key: service key"}},
		{"kratos without gRPC", `/microservices/user/u1 {"id":"u1","name":"user","endpoints":["http://10.0.0.7:8000"]}`, "", 0, []string{"none of the endpoints is grpc://"}},
		{"fields with odd names", `acme/user/h:9001 {"a.b":"h:9001","c[]":{"d.e":1},"\u0000":2,"":3}`, `key: "acme/user" json_layout: { addr: "a.b" }`, 1,
			[]string{`lost: "c[]" is not written (`, `lost: "\x00" is not written, such as 2`}},
		{"almost etcd's, without a port", "acme/user/h:9001 {\"Op\":0,\"Addr\":\"h:9001\"}\nacme/user/h:9002 {\"Op\":0,\"Addr\":\"h:9002\"}\n" + `acme/user/x {"addr":"10.0.0.7","version":"v2"}`, `key: "acme/user"`, 3,
			[]string{`change: "addr" is "10.0.0.7", and is written as "Addr": "10.0.0.7:443"`, `change: "version" is written as "Metadata.version"`}},
		{"instances that are not to be called", "acme/user/h:9001 {\"at\":\"h:9001\",\"is_up\":true,\"enabled\":false}\nacme/user/h:9002 {\"at\":\"h:9002\",\"state\":\"UP\",\"enabled\":true}\n" +
			"acme/user/h:9003 {\"at\":\"h:9003\",\"state\":\"Down\"}\nacme/user/h:9004 {\"at\":\"h:9004\",\"meta\":{\"off-line\":\"yes\"}}", `key: "acme/user" json_layout: { addr: "at" metadata: "meta" }`, 4,
			[]string{`inactive: 3 entries have a value that seems to say that the instance is not to be called, such as "enabled" is false: clients call it all the same`}},
		{"addresses of the caller's own host", "acme/user/0.0.0.0:1 0.0.0.0:1\nacme/user/[::1]:2 [::1]:2\nacme/user/localhost:3 localhost:3\nacme/user/10.0.0.7:4 10.0.0.7:4\nacme/user/localhost.acme:5 localhost.acme:5",
			`key: "acme/user" layout: LAYOUT_PLAIN`, 5, []string{`local-address: 3 entries have an address that means the caller's own host, such as 0.0.0.0:1: clients call it there`}},
		{"times and images", `acme/user/h:9001 {"port":9001,"at":"12:30","img":"shop:12","Host":"h"}`, `key: "acme/user" json_layout: { host: "Host" port: "port" }`, 1, []string{`lost: "at"`}},
		{"home-made that clients read in part", `acme/user/n1 {"addr":"10.0.0.1:9000","id":"n1","labels":{"team":"blue"}}`,
			`key: "acme/user" json_layout: { addr: "addr" instance: "id" metadata: "labels" }`, 1, []string{"instance: 1 entry has a key that does not end in the address"}},
		{"a known layout beside home-made ones that resemble it", "tut/user/a {\"Name\":\"user\",\"Addr\":\"10.0.0.1:9000\"}\ntut/user/b {\"Name\":\"user\",\"Addr\":\"10.0.0.2:9000\"}\n" +
			`tut/user/c {"Op":0,"Addr":"10.0.0.3:9000","Metadata":{"version":"v2"}}`, `key: "tut/user" json_layout: { addr: "Addr" name: "Name" }`, 3, []string{"mixed-layouts: the entries are in 2 layouts: endpoint_json (1), json_layout (2)"}},
		{"go-micro's without a node", `/micro/registry/user/u-1 {"name":"user","version":"latest","metadata":null,"endpoints":[],"nodes":null}`, "", 0, []string{"go-micro entry: the address is null"}},
		{"cut short", `acme/user/h:9001 {"Op":0,"Addr":"10.0.0`, "", 0, []string{"unread: clients would not read the entry: malformed JSON"}},
		{"wrong types", `acme/user/h:9001 {"Op":"0","Addr":7,"Metadata":[]}`, "", 0, []string{"unread"}},
		{"not UTF-8", "acme/user/h:9001 {\"Addr\":\"h:9001\xff\"}", "", 0, []string{"not valid UTF-8"}},
		{"huge", `acme/user/h:9001 {"at":"h:9001","x":"` + strings.Repeat("x", endpoint.MaxValue) + `"}`, "", 0, []string{"bytes of JSON, more than"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := adopt.Read("", entriesFrom(tc.entries), asIs)
			if err != nil {
				t.Fatal(err)
			}
			p := v.Proposals[0]
			if p.Read() != tc.read {
				t.Errorf("%d entries are read, want %d", p.Read(), tc.read)
			}
			checkOption(t, p, tc.want)
			got := found(p)
			for _, want := range tc.findings {
				if !strings.Contains(got, want) {
					t.Errorf("not found: %s\namong\n%s", want, got)
				}
			}
			if tc.findings == nil && got != "" {
				t.Errorf("found\n%s", got)
			}
		})
	}
}

// checkOption compares an option with its body in one line.
func checkOption(t *testing.T, p *adopt.Proposal, want string) {
	t.Helper()
	option := p.Option()
	body := strings.TrimSuffix(strings.TrimPrefix(strings.Join(strings.Fields(option), " "), "option (etcd.discovery.v1.service) = { "), " };")
	if body != want {
		t.Errorf("the option is %s, want %s", body, want)
	}
	if option == "" {
		return
	}
	checkPasted(t, option)
	opts := readOption(t, option)
	if opts.GetKey() != p.Key || (opts.GetJsonLayout() != nil) != p.IsMapped() {
		t.Errorf("%s is read as %v", option, opts)
	}
	if name := opts.GetLayout().String(); opts.GetLayout() != 0 && name != "LAYOUT_"+strings.ToUpper(p.Layout.String()) {
		t.Errorf("%s is read as %v", option, opts)
	}
}

func TestAdopt_Services(t *testing.T) {
	entries := entriesFrom(`
		_grpc_config/acme/user {}
		acme/user/a 10.0.0.1:9000
		acme/user/eu/a 10.0.0.2:9000
		hello7587882123456789012 @7587882123456789012 10.0.0.3:9000
		hello2/a 10.0.0.4:9000
		/microservices/user/u1 {"id":"u1","name":"user","endpoints":["grpc://h:9001"]}
		/microservices/user-admin/a 10.0.0.5:9000
		/k/user/u1 {"id":"u1","name":"user","endpoints":["grpc://h:9001"]}
		/k/user2/u1 {"id":"u1","name":"user2","endpoints":["grpc://h:9002"]}
		settings/db @0 db:5432
		Hello2/a h:9001
		größe/a h:9001
		gräße/a h:9001`)
	v, err := adopt.Read("", entries, func(key string) string { return "prod/" + key })
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	authorities := make(map[string]bool)
	for _, p := range v.Proposals {
		got[p.Key] = found(p)
		if p.Authority != "" && authorities[p.Authority] {
			t.Errorf("%s is the authority of two services", p.Authority)
		}
		authorities[p.Authority] = true
	}
	want := map[string]string{
		"acme/user": "nested-key: ", "acme/user/eu": "", "hello": "neighbour: ", "hello2": "authority: the key gives the TLS name hello2", "/microservices/user": "gives up on the whole list", "/microservices/user-admin": "",
		"/k/user": "it finds the entries of both", "/k/user2": "",
		"Hello2": "", "größe": "authority", "gräße": "authority",
	}
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("services %q", slices.Sorted(maps.Keys(got)))
	}
	for key, part := range want {
		if !strings.Contains(got[key], part) {
			t.Errorf("%s: found\n%s", key, got[key])
		}
	}
	if len(v.Others) != 1 || v.Others[0].Key != "settings" {
		t.Errorf("%d other keys, want that of settings", len(v.Others))
	}
}

// TestAdopt_Nothing has prefixes with nothing below them.
func TestAdopt_Nothing(t *testing.T) {
	for _, tc := range []struct{ prefix, entries, want string }{
		{"_grpc_config/", "_grpc_config/acme/user {}", `nothing is below "_grpc_config/"`},
		{"acme/user", "acme/user 10.0.0.7:9000", `the keys that begin so are entries of "acme": etcdrpc adopt acme`},
		{"acme/user/10", "acme/user/10.0.0.7:9000 10.0.0.7:9000", "etcdrpc adopt acme/user"},
		{"motd", "motd hello", "have no slash"},
	} {
		if _, err := adopt.Read(tc.prefix, entriesFrom(tc.entries), asIs); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.prefix, err, tc.want)
		}
	}
	for prefix, entries := range map[string]string{"hello": "hello7587882123456789010 @0 10.0.0.7:9000", "/settings": "/settings/db @0 db:5432", "acme/us": "acme/user/a h:9001"} {
		if v, err := adopt.Read(prefix, entriesFrom(entries), asIs); err != nil || len(v.Proposals) != 1 {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// TestAdopt_Shown prints many entries that cannot be read.
func TestAdopt_Shown(t *testing.T) {
	var text strings.Builder
	for n := range 50 {
		fmt.Fprintf(&text, "acme/user/%d {\"endpoint\":\"\\u001b[2J%d\"}\n", n, n)
	}
	v, err := adopt.Read("acme", entriesFrom(text.String()), asIs)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := v.Show(&out, output.FormatTable); err != nil || !v.Unreadable() {
		t.Errorf("%v, unreadable: %v", err, v.Unreadable())
	}
	checkShown(t, "adopt", out.String())
	if got := strings.Count(out.String(), "unread: "); got != adopt.MaxUnread || !strings.Contains(out.String(), "would not read (30)") {
		t.Errorf("%d entries are listed in\n%s", got, out.String())
	}
	out.Reset()
	if err := v.Show(&out, output.FormatJSON); err != nil {
		t.Error(err)
	}
	var all []adopt.ProposalJSON
	if err := json.Unmarshal(out.Bytes(), &all); err != nil || len(all) != 1 || len(all[0].Findings) != 50 || all[0].Option != "" {
		t.Errorf("%v: %+v", err, all)
	}
}
