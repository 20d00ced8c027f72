package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// FuzzLiveConfig shows a live config and edits it like policy and drain.
func FuzzLiveConfig(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `null`, `[]`, `{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingConfig":null}`, `{"loadBalancingConfig":[null]}`, `{"loadBalancingConfig":[{"etcd":null}]}`,
		`{"loadBalancingConfig":[{"etcd":{"drain":["a","b"],"preferZone":true,"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}}],"healthCheckConfig":{}}`,
		`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}],"methodConfig":[{"name":[{}],"timeout":"1.5s"}]}`,
		`{"loadBalancingConfig":[{"etcd":{"drain":"a"}}]}`, `{"loadBalancingPolicy":1}`, `{"a":1e400,"b":1.0,"a":"<>"}`, strings.Repeat(
			"[", 5000) + strings.Repeat("]", 5000), "{\"a\":\"\xff\u202e\"}",
	} {
		f.Add([]byte(text), "10.0.0.7:9000")
	}

	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if len(text) > serviceconfig.MaxSize {
			return
		}

		shown := liveconfig.Pretty(text)
		again := liveconfig.Pretty([]byte(shown))
		if again != shown || len(shown) > 100*(len(text)+1) {
			t.Fatalf("%q is printed as %d bytes %q, which is printed again as %q", text,
				len(shown), shown, again)
		}

		var out bytes.Buffer
		err := output.WriteJSON(&out,
			policyJSON{"acme/user", "_grpc_config/acme/user", 1, liveconfig.AsJSON(string(text))})
		if err != nil || out.Len() > 100*(len(text)+10) || !json.Valid(out.Bytes()) {
			t.Fatalf("%q is printed as JSON of %d bytes, error %v", text, out.Len(), err)
		}

		c, err := liveconfig.Parse(string(text))
		if err != nil {
			checkShown(t, "the error", err.Error())

			if len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("the error is too long or has several lines: %v", err)
			}

			return
		}

		if same := c.String(); same != string(text) && !strings.Contains(same, "until") {
			t.Fatalf("%s becomes %s without an edit, want the same", text, same)
		}

		policy, err := c.EnsureEtcd()
		if err != nil ||
			name == "" ||
			!utf8.ValidString(name) ||
			slices.Contains(policy.Drain, serviceconfig.Drained{Instance: name}) {
			return
		}

		want := append(slices.Clone(policy.Drain), serviceconfig.Drained{Instance: name})
		policy.Drain = want

		edited := c.String()
		if len(edited) > serviceconfig.MaxSize {
			return
		}

		after, err := liveconfig.Parse(edited)
		if err != nil || !slices.Equal(after.Etcd().Drain, want) {
			t.Fatalf("%s, with %q drained, is %s (error %v), want the drain %q", text, name,
				edited, err, want)
		}

		before, err := liveconfig.Parse(string(text))
		must(t, err)
		before.LoadBalancing = nil
		after.LoadBalancing = nil

		if before.JSON() != after.JSON() {
			t.Fatalf("%s is edited to %s, want all but load balancing unchanged", text, edited)
		}
	})
}

// FuzzDiff checks that a diff contains both texts.
func FuzzDiff(f *testing.F) {
	f.Add("a\nb\nc", "b\nc\na", uint16(0))
	f.Add("", "a\n", uint16(3))
	f.Add("{\n  \"a\": 1\n}", "{\n  \"b\": 1\n}", uint16(20000))

	f.Fuzz(func(t *testing.T, before, after string, times uint16) {
		n := int(times)
		if len(before)*n < serviceconfig.MaxSize && len(after)*n < serviceconfig.MaxSize {
			before = before + strings.Repeat("\n"+before, n)
			after = after + strings.Repeat("\n"+after, n)
		}

		shown := output.Diff(before, after)
		side := func(other string) (lines []string) {
			for _, line := range shown {
				if line[:2] != other {
					lines = append(lines, line[2:])
				}
			}

			return lines
		}
		if !slices.Equal(side("+ "), output.Lines(before)) ||
			!slices.Equal(side("- "), output.Lines(after)) {
			t.Fatalf("%q and %q differ by\n%s", before, after, shown)
		}
	})
}

// linesOf parses entries, one in each line: key, lease and value. It skips
// lines whose key an earlier line has.
func linesOf(text string) (entries []inventory.Entry) {
	for line := range strings.SplitSeq(text, "\n") {
		parts := strings.SplitN(line, " ", 3)
		if len(parts) == 3 && !slices.ContainsFunc(entries, func(e inventory.Entry) bool {
			return e.Key == parts[0]
		}) {
			lease, _ := strconv.ParseInt(parts[1], 10, 64)
			revision := int64(len(entries))
			entries = append(entries, inventory.Entry{
				Key:            parts[0],
				Value:          []byte(parts[2]),
				Lease:          lease,
				CreateRevision: revision,
				ModRevision:    revision,
			})
		}
	}

	return entries
}

// FuzzSurvey finds the services among arbitrary entries. Each line holds the
// key, the lease and the value of an entry.
func FuzzSurvey(f *testing.F) {
	f.Add("acme/user/a 1 {\"Addr\":\"10.0.0.7:80\"}\nacme/user/7587882123456789012 7587882123456789012 10.0.0.7:80\n_grpc_config/acme/user 0 {\"loadBalancingConfig\":[{\"etcd\":{\"drain\":[\"a\"]}}]}")
	f.Add("hello7587882123456789012 7587882123456789012 10.0.0.7:80\nhello27587882123456789012 7 10.0.0.7:80\nhello2/a 0 h:1\nhello2 1 x")
	f.Add("acme/user/a 1 {\"endpoint\":\"h:9000\",\"ver\":\"v1\"}\nacme/user/h:80 1 {\"endpoint\":\"h:80\"}\nacme/user/h:81 0 {\"endpoint\":\"h\"}\nconfig/db 0 {\"url\":\"db:5432\"}")
	f.Add("motd 0 10.0.0.7:80\n/ 0 h:1\n// 0 h:1\n 0 \n_grpc_config/ 0 {}\na\x1b[2J/\u202e 0 bad\x1b[2J")

	f.Fuzz(func(t *testing.T, text string) {
		entries := linesOf(text)
		services := inventory.All(entries)
		seen := make(map[string]string)
		for _, s := range services {
			for _, i := range slices.Concat(s.Instances, s.Malformed) {
				if other, twice := seen[i.Entry.Key]; twice {
					t.Fatalf("%q is an entry of %q and of %q", i.Entry.Key, other, s.Key)
				}

				seen[i.Entry.Key] = s.Key
			}

			one := inventory.Of(s.Key, entries)
			if len(one.Instances) < len(s.Instances) {
				t.Fatalf("%q has %d instances among all services, and %d alone", s.Key,
					len(s.Instances), len(one.Instances))
			}
		}

		inventory.LeaseIDs(inventory.Entries(services))
		var out bytes.Buffer

		head, cells := table(inventory.Entries(services))
		output.Table(&out, head, cells)
		checkShown(t, "ls", out.String())

		if n := strings.Count(out.String(), "\n"); n != 1+len(seen) {
			t.Fatalf("the table of %d entries has %d lines:\n%s", len(seen), n, out.String())
		}

		must(t, output.WriteJSON(io.Discard, servicesJSON(services)))
	})
}
