package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

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
		drainList(text)
		c, err := parseConfig(text)
		if err != nil {
			checkPrints(t, err)
			return
		}
		before, err := c.drained()
		if err != nil || name == "" || !utf8.ValidString(name) || slices.Contains(before, name) {
			return
		}
		child, err := childPolicy("round_robin")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.setDrained(append(slices.Clone(before), name), child); err != nil {
			checkPrints(t, err)
			return
		}
		edited := c.String()
		if got := drainList([]byte(edited)); !slices.Equal(got, append(slices.Clone(before), name)) {
			t.Fatalf("%s, with %q drained, is %s, which drains %q", text, name, edited, got)
		}
		if len(text) == 0 || checkConfig(string(text)) != nil || len(edited) > serviceconfig.MaxSize {
			return
		}
		if err := checkConfig(edited); err != nil {
			t.Fatalf("%s, with %q drained, is %s: %v", text, name, edited, err)
		}
		checkKept(t, text, edited)
		if err := c.setDrained(before, nil); err != nil {
			t.Fatal(err)
		}
		if err := checkConfig(c.String()); err != nil {
			t.Fatalf("%s, with %q no more drained, is %s: %v", edited, name, c, err)
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
	shown := pretty(text)
	if len(shown) > 100*(len(text)+1) {
		t.Fatalf("%d bytes are shown in %d", len(text), len(shown))
	}
	if again := pretty([]byte(shown)); again != shown {
		t.Fatalf("%q is shown as %q, and that as %q", text, shown, again)
	}
	var out bytes.Buffer
	if err := writeJSON(&out, policyJSON{"acme/user", "_grpc_config/acme/user", 1, asJSON(string(text))}); err != nil {
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
		start := time.Now()
		shown := diff(before, after)
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %v for %d and %d bytes", took, len(before), len(after))
		}
		var a, b []string
		for line := range strings.SplitSeq(strings.TrimSuffix(shown, "\n"), "\n") {
			switch {
			case shown == "":
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
		if !slices.Equal(a, lines(before)) || !slices.Equal(b, lines(after)) {
			t.Fatalf("%q and %q differ by\n%s", before, after, shown)
		}
	})
}

// FuzzSurvey finds the services in whatever etcd holds. Each line is an entry: key, lease and value.
func FuzzSurvey(f *testing.F) {
	f.Add("acme/user/a 1 {\"Addr\":\"10.0.0.7:80\"}\nacme/user/7587882123456789012 7587882123456789012 10.0.0.7:80\n_grpc_config/acme/user 0 {\"loadBalancingConfig\":[{\"etcd\":{\"drain\":[\"a\"]}}]}")
	f.Add("hello7587882123456789012 7587882123456789012 10.0.0.7:80\nhello27587882123456789012 7 10.0.0.7:80\nhello2/a 0 h:1\nhello2 1 x")
	f.Add("motd 0 10.0.0.7:80\n/ 0 h:1\n// 0 h:1\n 0 \n_grpc_config/ 0 {}\na\x1b[2J/\u202e 0 bad\x1b[2J")
	f.Fuzz(func(t *testing.T, text string) {
		var entries []entry
		for i, line := range strings.Split(text, "\n") {
			e := entry{createRevision: int64(i), modRevision: int64(i)}
			var value string
			if n, err := fmt.Sscanf(line, "%s %d %s", &e.key, &e.lease, &value); err != nil && n < 2 {
				continue
			}
			e.value = []byte(value)
			entries = append(entries, e)
		}
		slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
		entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.key == b.key })
		services := surveyAll(entries)
		seen := make(map[string]string)
		for _, s := range services {
			for _, i := range slices.Concat(s.instances, s.malformed) {
				if other, twice := seen[i.entry.key]; twice {
					t.Fatalf("%q is an entry of %q and of %q", i.entry.key, other, s.key)
				}
				seen[i.entry.key] = s.key
			}
			one, others := surveyKey(s.key, entries)
			if len(one.instances) < len(s.instances) {
				t.Fatalf("%q has %d instances, and %d where it is looked at alone, beside %d others", s.key, len(s.instances), len(one.instances), len(others))
			}
		}
		leaseIDs(services)
		v := &view{services: services, full: func(key string) string { return "prod/" + key }}
		var out bytes.Buffer
		table(&out, instanceHead, v.rows())
		if n := strings.Count(out.String(), "\n"); n != 1+len(seen) {
			t.Fatalf("%d entries are shown in %d lines:\n%s", len(seen), n, out.String())
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Fatalf("shown as %q", out.String())
		}
		if err := writeJSON(io.Discard, v.json()); err != nil {
			t.Fatal(err)
		}
	})
}

// checkPrints keeps errors fit for a terminal.
func checkPrints(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("the error is long, or does not print: %q", err)
	}
}
