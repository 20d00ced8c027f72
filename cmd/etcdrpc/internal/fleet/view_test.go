package fleet

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// service makes a service of entries, written "name value", and a live config.
func service(t *testing.T, config string, entries ...string) *survey.Service {
	t.Helper()
	var all []survey.Entry
	for n, text := range entries {
		name, value, _ := strings.Cut(text, " ")
		all = append(all, survey.Entry{Key: "acme/user/" + name, Value: []byte(value), Lease: 7, CreateRevision: int64(n + 2), ModRevision: int64(n + 2)})
	}
	if config != "" {
		all = append(all, survey.Entry{Key: survey.ConfigPrefix + "acme/user", Value: []byte(config), ModRevision: 99})
	}
	found := survey.All(all)
	if len(found) != 1 {
		t.Fatalf("%d services", len(found))
	}
	return found[0]
}

func etcdPolicy(fields string) string {
	return `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}]` + fields + `}}]}`
}

// Servers that write two layouts count once, and each entry says what clients make of it.
func TestDetail_TwoLayouts(t *testing.T) {
	t.Parallel()
	const (
		n1 = `10.0.0.1:9000 {"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"weight":10,"version":"v1"}}`
		u1 = `u1 {"id":"u1","name":"user","version":"v1","metadata":{},"endpoints":["grpc://10.0.0.1:9000"]}`
		n2 = `10.0.0.2:9000 {"Op":0,"Addr":"10.0.0.2:9000","Metadata":{"weight":10,"version":"v1"}}`
		u2 = `u2 {"id":"u2","name":"user","version":"v1","metadata":{},"endpoints":["grpc://10.0.0.2:9000"]}`
	)
	for name, c := range map[string]struct {
		config string
		counts console.Counts
		want   string
	}{
		"no live config": {"", console.Counts{Registered: 2}, "double, double, registered, registered"},
		"none drained":   {etcdPolicy(``), console.Counts{Registered: 2}, "double, double, registered 50 %, registered 50 %"},
		"by id":          {etcdPolicy(`,"drain":["u1"]`), console.Counts{Registered: 1, Drained: 1}, "double, double, drained 0 %, registered 100 %"},
		"by address":     {etcdPolicy(`,"drain":["10.0.0.1:9000"]`), console.Counts{Registered: 1, Drained: 1}, "double, double, drained 0 %, registered 100 %"},
	} {
		s := service(t, c.config, n1, u1, n2, u2)
		if sum := summarize(s, "", "", false); sum.Counts != c.counts || sum.Counts.Total() != 2 {
			t.Errorf("%s: %+v, not %+v", name, sum.Counts, c.counts)
		}
		var got []string
		for _, i := range detail(s, "", func(key string) string { return key }).Instances {
			text := string(i.State)
			if i.Share >= 0 {
				text += fmt.Sprintf(" %.0f %%", i.Share)
			}
			got = append(got, text)
			if why := "has the address of u" + i.Addr[7:8] + ", which stands for both"; i.State == console.Double && i.Problem != why {
				t.Errorf("%s: %s has %q beside it, not %q", name, i.ID, i.Problem, why)
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, not %s", name, text, c.want)
		}
	}
}

// A drain by an id that clients do not know keeps no calls off, and is not shown as if it did.
func TestDetail_DrainUnknown(t *testing.T) {
	t.Parallel()
	s := service(t, etcdPolicy(`,"drain":["n1"]`),
		`n1 {"Op":0,"Addr":"10.0.0.1:9000","Metadata":{}}`, `u1 {"id":"u1","name":"user","endpoints":["grpc://10.0.0.1:9000"]}`, "n2 10.0.0.2:9000")
	for _, i := range detail(s, "", func(key string) string { return key }).Instances {
		if i.State == survey.Drained {
			t.Errorf("%s is drained", i.ID)
		}
	}
}

// Of a live config that is too large the head is shown, and is not to be edited as if it were all.
func TestDetail_LargeConfig(t *testing.T) {
	t.Parallel()
	s := service(t, "{}", "10.0.0.1:9000 10.0.0.1:9000")
	large := survey.Entry{Key: s.Config.Key, Value: bytes.Repeat([]byte(" "), 1<<20)}.Shortened()
	s.Config = &large
	if c := detail(s, "", func(key string) string { return key }).Config; c.Whole || !strings.Contains(c.Problem, "1048576 bytes") || len(c.Text) > maxShown {
		t.Errorf("whole %t, %d bytes, %q", c.Whole, len(c.Text), c.Problem)
	}
}

// A drain of all that is left is ignored by clients, and the page says so.
func TestDetail_DrainIgnored(t *testing.T) {
	t.Parallel()
	s := service(t, etcdPolicy(`,"drain":["10.0.0.1:9000"]`), "10.0.0.1:9000 10.0.0.1:9000")
	if i := detail(s, "", func(key string) string { return key }).Instances[0]; i.State != survey.Registered || !i.Listed || i.Share != 100 || i.Problem == "" {
		t.Errorf("%+v", i)
	}
}

// An instance that has no calls says why, and a group without instances says so.
func TestDetail_Why(t *testing.T) {
	t.Parallel()
	s := service(t, etcdPolicy(`,"subset":2,"split":[{"match":{"version":"v1"},"weight":50},{"match":{"version":"v9"},"weight":50}]`),
		`10.0.0.1:9000 {"Addr":"10.0.0.1:9000","Metadata":{"version":"v1"}}`, `10.0.0.2:9000 {"Addr":"10.0.0.2:9000","Metadata":{"version":"v2"}}`)
	got := detail(s, "", func(key string) string { return key })
	if i := got.Instances[1]; i.Share != 0 || i.Problem != "matches no group of the split, while others have one" {
		t.Errorf("%+v", i)
	}
	if splits := got.Config.Splits; splits[0].Empty || !splits[1].Empty {
		t.Errorf("the groups are %+v", splits)
	}
	for _, want := range []string{"split[1] has no instance here", "Each client uses 2 instances"} {
		if !slices.ContainsFunc(got.Notes, func(note string) bool { return strings.Contains(note, want) }) {
			t.Errorf("the notes %q lack %q", got.Notes, want)
		}
	}
}

// A service in a namespace is as its clients see it there, and is changed there.
func TestDetail_Namespace(t *testing.T) {
	t.Parallel()
	entries := []survey.Entry{
		{Key: "_grpc_config/prod/acme/user", Value: []byte(etcdPolicy(`,"drain":["b"]`))},
		{Key: "prod/_grpc_config/acme/user", Value: []byte(etcdPolicy(`,"drain":["a"]`))},
		{Key: "prod/acme/user/a", Value: []byte("10.0.0.1:9000"), Lease: 7},
		{Key: "prod/acme/user/b", Value: []byte("10.0.0.2:9000"), Lease: 7},
	}
	found := survey.All(entries)
	if len(found) != 1 {
		t.Fatalf("%d services", len(found))
	}
	out := detail(found[0], "", func(key string) string { return "eu/" + key })
	if a, b := out.Instances[0].State, out.Instances[1].State; a != survey.Drained || b != survey.Registered || out.Editable {
		t.Errorf("a is %s, b is %s, editable %v", a, b, out.Editable)
	}
	if want := `It lies in the namespace "eu/prod/", and is changed there: etcdrpc ui --namespace eu/prod/`; !slices.Contains(out.Notes, want) {
		t.Errorf("it says %q", out.Notes)
	}
}

// The split that is proposed leaves no version without calls.
func TestProposeSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		versions string // each with how many
		want     string
		unsaid   int
	}{
		{"v1:2 v2:2", "v1:50 v2:50", 0},
		{"v1:2 v2:1", "v1:67 v2:33", 0},
		{"v1:120 v2:1", "v1:99 v2:1", 0},
		{"v1:120 v2:1 :1", "v1:99 v2:1", 1},
		{"v1:3", "", 0},
		{"v1:3 :2", "", 0},
	} {
		var entries []string
		for spec := range strings.FieldsSeq(c.versions) {
			version, times, _ := strings.Cut(spec, ":")
			n := 0
			if _, err := fmt.Sscan(times, &n); err != nil {
				t.Fatal(err)
			}
			for range n {
				addr := fmt.Sprintf("10.0.0.%d:9000", len(entries))
				entries = append(entries, fmt.Sprintf(`%s {"Addr":%q,"Metadata":{"version":%q}}`, addr, addr, version))
			}
		}
		config := proposeSplit(console.Config{}, service(t, "", entries...).Merged())
		var got []string
		for _, split := range config.Splits {
			got = append(got, fmt.Sprintf("%s:%d", split.Match["version"], split.Weight))
		}
		if text := strings.Join(got, " "); text != c.want || config.Unsaid != c.unsaid || config.Proposed != (c.want != "") {
			t.Errorf("%s: %+v", c.versions, config)
		}
	}
}

// A group of a split without an instance that may be called has no calls, and is no canary.
func TestSummarize_Traffic(t *testing.T) {
	t.Parallel()
	const split = `,"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"v2"},"weight":10}]`
	v1, v2 := `a {"Addr":"10.0.0.1:9000","Metadata":{"version":"v1"}}`, `b {"Addr":"10.0.0.2:9000","Metadata":{"version":"v2"}}`
	for name, c := range map[string]struct {
		config string
		want   string
	}{
		"called":  {etcdPolicy(split), "v1 90 v2 10"},
		"drained": {etcdPolicy(split + `,"drain":["b"]`), "v1 100"},
	} {
		sum := summarize(service(t, c.config, v1, v2), "", "", false)
		var got []string
		for _, g := range sum.Traffic {
			got = append(got, fmt.Sprint(g.Match["version"], " ", g.Percent))
		}
		if strings.Join(got, " ") != c.want || (sum.Canary() != nil) != (len(got) > 1) {
			t.Errorf("%s: %s, canary %v", name, got, sum.Canary())
		}
	}
}

// Of keys that are far too long nothing is remembered.
func TestTake_LongKeys(t *testing.T) {
	t.Parallel()
	f := &Fleet{store: new(store.Store), news: make(chan struct{}, 1)}
	f.take([]store.Change{{Entry: survey.Entry{Key: "acme/user/a"}}, {Entry: survey.Entry{Key: "acme/user/" + strings.Repeat("a", maxChanged)}}}, time.Now())
	if len(f.changes) != 1 || f.changes[0].Key != "acme/user/a" || f.noted != 1 {
		t.Errorf("%d changes are remembered", len(f.changes))
	}
}
