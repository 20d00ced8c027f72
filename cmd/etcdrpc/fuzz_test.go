package main

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// FuzzLiveConfig shows a live config and edits it, as policy and drain do.
func FuzzLiveConfig(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `null`, `[]`, `{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingConfig":null}`, `{"loadBalancingConfig":[null]}`, `{"loadBalancingConfig":[{"etcd":null}]}`,
		`{"loadBalancingConfig":[{"etcd":{"drain":["a","b"],"preferZone":true,"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}}],"healthCheckConfig":{}}`,
		`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}],"methodConfig":[{"name":[{}],"timeout":"1.5s"}]}`,
		`{"loadBalancingConfig":[{"etcd":{"drain":"a"}}]}`, `{"loadBalancingPolicy":1}`, `{"a":1e400,"b":1.0,"a":"<>"}`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "{\"a\":\"\xff\u202e\"}",
	} {
		f.Add([]byte(text), "10.0.0.7:9000")
	}
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if len(text) > serviceconfig.MaxSize {
			return
		}
		checkText(t, text)
		c, err := liveconfig.Parse(string(text))
		if err != nil {
			text := err.Error()
			if checkShown(t, "the error", text); len(text) > 1000 || strings.Contains(text, "\n") {
				t.Fatalf("the error is long, or has several lines: %q", text)
			}
			return
		}
		if same := c.String(); same != string(text) {
			t.Fatalf("%s becomes %s without an edit", text, same)
		}
		child, err := liveconfig.ChildPolicy("round_robin")
		if err != nil {
			t.Fatal(err)
		}
		policy, err := c.EnsureEtcd(child)
		if err != nil {
			if len(c.LoadBalancing) == 1 {
				t.Fatalf("%s: %v", text, err)
			}
			return
		}
		if name == "" || !utf8.ValidString(name) || slices.Contains(policy.Drain, name) {
			return
		}
		want := append(slices.Clone(policy.Drain), name)
		policy.Drain = want
		edited := c.String()
		after, err := liveconfig.Parse(edited)
		if len(edited) > serviceconfig.MaxSize {
			return
		}
		if err != nil || !slices.Equal(after.Etcd().Drain, want) {
			t.Fatalf("%s, with %q drained, is %s: %v", text, name, edited, err)
		}
		if len(text) > 0 {
			checkKept(t, text, edited)
		}
	})
}

// checkKept has all of a config that is not about load balancing be as it was.
func checkKept(t *testing.T, text []byte, edited string) {
	t.Helper()
	before, err := serviceconfig.ParseLive(string(text))
	if err != nil {
		t.Fatal(err)
	}
	after, err := serviceconfig.ParseLive(edited)
	if err != nil {
		t.Fatal(err)
	}
	before.LoadBalancing, after.LoadBalancing = nil, nil
	if before.JSON() != after.JSON() {
		t.Fatalf("%s is edited to %s", text, edited)
	}
}

// checkText has a text printed, which must not take much more room than the text, and say the same.
func checkText(t *testing.T, text []byte) {
	t.Helper()
	shown := liveconfig.Pretty(text)
	if len(shown) > 100*(len(text)+1) {
		t.Fatalf("%d bytes are shown in %d", len(text), len(shown))
	}
	if again := liveconfig.Pretty([]byte(shown)); again != shown {
		t.Fatalf("%q is shown as %q, and that as %q", text, shown, again)
	}
	var out bytes.Buffer
	if err := output.WriteJSON(&out, policyJSON{"acme/user", "_grpc_config/acme/user", 1, liveconfig.AsJSON(string(text))}); err != nil {
		t.Fatalf("%q in JSON: %v", text, err)
	}
	if len(out.Bytes()) > 100*(len(text)+10) || !json.Valid(out.Bytes()) {
		t.Fatalf("%d bytes are shown in JSON of %d", len(text), out.Len())
	}
}

// FuzzDiff compares texts. Each of them is there in what comes out.
func FuzzDiff(f *testing.F) {
	f.Add("a\nb\nc", "b\nc\na", uint16(0))
	f.Add("", "a\n", uint16(3))
	f.Add("{\n  \"a\": 1\n}", "{\n  \"b\": 1\n}", uint16(20000))
	f.Fuzz(func(t *testing.T, before, after string, times uint16) {
		if n := int(times); len(before)*n < serviceconfig.MaxSize && len(after)*n < serviceconfig.MaxSize {
			before, after = before+strings.Repeat("\n"+before, n), after+strings.Repeat("\n"+after, n)
		}
		shown := output.Diff(before, after)
		var a, b []string
		for _, line := range shown {
			switch {
			case strings.HasPrefix(line, "- "):
				a = append(a, line[2:])
			case strings.HasPrefix(line, "+ "):
				b = append(b, line[2:])
			case strings.HasPrefix(line, "  "):
				a, b = append(a, line[2:]), append(b, line[2:])
			default:
				t.Fatalf("a line %q", line)
			}
		}
		if !slices.Equal(a, output.Lines(before)) || !slices.Equal(b, output.Lines(after)) {
			t.Fatalf("%q and %q differ by %q", before, after, shown)
		}
	})
}

// linesOf makes entries below a prefix of lines: key, lease and value.
func linesOf(text, prefix string) (entries []inventory.Entry) {
	for line := range strings.SplitSeq(text, "\n") {
		parts := strings.SplitN(line, " ", 3)
		if len(parts) < 3 || !strings.HasPrefix(parts[0], prefix) {
			continue
		}
		lease, _ := strconv.ParseInt(parts[1], 10, 64)
		revision := int64(len(entries))
		entries = append(entries, inventory.Entry{Key: parts[0], Value: []byte(parts[2]), Lease: lease, CreateRevision: revision, ModRevision: revision})
	}
	return sortedOnce(entries)
}

// FuzzSurvey finds the services in whatever etcd holds. Each line is an entry: key, lease and value.
func FuzzSurvey(f *testing.F) {
	f.Add("acme/user/a 1 {\"Addr\":\"10.0.0.7:80\"}\nacme/user/7587882123456789012 7587882123456789012 10.0.0.7:80\n_grpc_config/acme/user 0 {\"loadBalancingConfig\":[{\"etcd\":{\"drain\":[\"a\"]}}]}")
	f.Add("hello7587882123456789012 7587882123456789012 10.0.0.7:80\nhello27587882123456789012 7 10.0.0.7:80\nhello2/a 0 h:1\nhello2 1 x")
	f.Add("acme/user/a 1 {\"endpoint\":\"h:9000\",\"ver\":\"v1\"}\nacme/user/h:80 1 {\"endpoint\":\"h:80\"}\nacme/user/h:81 0 {\"endpoint\":\"h\"}\nconfig/db 0 {\"url\":\"db:5432\"}")
	f.Add("motd 0 10.0.0.7:80\n/ 0 h:1\n// 0 h:1\n 0 \n_grpc_config/ 0 {}\na\x1b[2J/\u202e 0 bad\x1b[2J")
	f.Fuzz(func(t *testing.T, text string) {
		entries := linesOf(text, "")
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
				t.Fatalf("%q has %d instances, and %d where it is looked at alone", s.Key, len(s.Instances), len(one.Instances))
			}
		}
		inventory.LeaseIDs(inventory.Entries(services))
		v := &view{Snapshot: &store.Snapshot{Services: services}}
		var out bytes.Buffer
		head, cells := table(v.shown())
		output.Table(&out, head, cells)
		if n := strings.Count(out.String(), "\n"); n != 1+len(seen) {
			t.Fatalf("%d entries are shown in %d lines:\n%s", len(seen), n, out.String())
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Fatalf("shown as %q", out.String())
		}
		if err := output.WriteJSON(io.Discard, v.json()); err != nil {
			t.Fatal(err)
		}
	})
}
