package endpointfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func source(name string) Source {
	return Source{Cluster: 7, Members: []string{"http://10.0.0.1:2379", "10.0.0.2:2379"}, Range: name}
}

// away is what is known of a source while etcd does not answer.
func away(s Source) Source {
	s.Cluster = 0
	return s
}

func (s Snapshot) equal(o Snapshot) bool {
	return slices.EqualFunc(s.Endpoints, o.Endpoints, endpoint.Endpoint.Equal) && s.Live == o.Live && s.Saved.Equal(o.Saved)
}

// one is a snapshot of one endpoint.
func one(addr string, saved time.Time) Snapshot {
	return Snapshot{Endpoints: []endpoint.Endpoint{{Instance: "a", Addr: addr}}, Saved: saved}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir() + "/made/when/needed"
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	endpoints := []endpoint.Endpoint{
		{Instance: "a", Addr: "10.0.0.1:9000", Version: "v2", Zone: "<z>", Weight: 3, Metadata: map[string]string{"k": "é\n"}},
		{Instance: "b", Addr: "[::1]:9000"},
	}
	for _, name := range []string{"prod/acme/user/", "/services/ünï/", strings.Repeat("long/", 100)} {
		s := source(name)
		if _, err := Load(dir, away(s)); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Load before Save: %v, want that there is no file", err)
		}
		for _, want := range []Snapshot{{endpoints, "", now}, {nil, "", now}, {endpoints[:1], `{"loadBalancingConfig":[{"etcd":{"drain":["ü"]}}]}`, now}} {
			if err := Save(dir, s, want); err != nil {
				t.Fatal(err)
			}
			if got, err := Load(dir, away(s)); err != nil || !got.equal(want) {
				t.Fatalf("Load = %v, %v, want %v", got, err, want)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("the directory holds %v, %v, want one file a key", files, err)
	}
}

func TestK7_ClustersAreNeverCrossed(t *testing.T) {
	first := Source{Cluster: 1, Members: []string{"10.0.0.1:2379", "10.0.0.2:2379"}, Range: "acme/user/"}
	second := Source{Cluster: 2, Members: []string{"10.0.9.1:2379"}, Range: "acme/user/"}
	dir := t.TempDir()
	now := time.Now()
	for i, save := range []struct {
		source Source
		addr   string
	}{{first, "1.1.1.1:1"}, {second, "2.2.2.2:2"}, {first, "1.1.1.1:11"}} {
		if err := Save(dir, save.source, one(save.addr, now.Add(time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		members []string
		rng     string
		want    string // "": there is none
	}{
		{"the same members", first.Members, "acme/user/", "1.1.1.1:11"},
		{"a member more, spelled as a URL", []string{"https://10.0.0.2:2379/", "10.0.0.3:2379"}, "acme/user/", "1.1.1.1:11"},
		{"the other cluster", second.Members, "acme/user/", "2.2.2.2:2"},
		{"a cluster that saved nothing", []string{"10.0.7.7:2379"}, "acme/user/", ""},
		{"another namespace", first.Members, "prod/acme/user/", ""},
	} {
		got, err := Load(dir, Source{Members: tt.members, Range: tt.rng})
		if tt.want == "" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: Load = %v, %v, want that there is no file", tt.name, got, err)
			}
			continue
		}
		if err != nil || len(got.Endpoints) != 1 || got.Endpoints[0].Addr != tt.want {
			t.Errorf("%s: Load = %v, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestLoadTakesTheNewestOfAReplacedCluster(t *testing.T) {
	dir, s := t.TempDir(), source("k")
	old := s
	old.Cluster = 6
	now := time.Now()
	for i, s := range []Source{s, old} {
		saved := now.Add(-time.Duration(i) * time.Millisecond)
		if err := Save(dir, s, one([]string{"10.0.0.1:1", "10.0.0.2:2"}[i], saved)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Load(dir, away(s)); err != nil || got.Endpoints[0].Addr != "10.0.0.1:1" {
		t.Errorf("Load = %v, %v, want what was saved last", got, err)
	}
}

func TestLoadRefusesWhatWasDamaged(t *testing.T) {
	dir, s := t.TempDir(), source("k")
	whole := one("10.0.0.1:9000", time.Now())
	whole.Live = `{"retryThrottling":{"maxTokens":10}}`
	if err := Save(dir, s, whole); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.path(dir))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":       nil,
		"truncated":   good[:len(good)/2],
		"edited":      bytes.Replace(good, []byte("10.0.0.1:9000"), []byte("10.0.0.2:9000"), 1),
		"other live":  bytes.Replace(good, []byte(`"maxTokens": 10`), []byte(`"maxTokens": 11`), 1),
		"no live":     bytes.Replace(good, []byte(`"live_config"`), []byte(`"live"`), 1),
		"format":      bytes.Replace(good, []byte(`"format": 2`), []byte(`"format": 1`), 1),
		"other range": bytes.Replace(good, []byte(`"range": "k"`), []byte(`"range": "l"`), 1),
	} {
		if err := os.WriteFile(s.path(dir), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(bad, good) {
			t.Errorf("%s: nothing is", name)
		}
		if got, err := Load(dir, away(s)); err == nil {
			t.Errorf("%s: Load = %v, want an error", name, got)
		}
	}
}

// A file of before live configs were kept is read as it always was.
func TestLoadAnOlderFile(t *testing.T) {
	dir, s := t.TempDir(), source("k")
	const text = `{"format": 2, "cluster": "0000000000000007", "members": ["10.0.0.1:2379"], "range": "k", "saved": "2026-01-02T03:04:05Z",
		"endpoints": [{"instance":"a","addr":"10.0.0.1:9000"}], "sha256": "f1546ba99a8fac31a0e87a47db8576c3143d4e3196dcbe3f1cfbfb5bf339f2e4"}`
	if err := os.WriteFile(s.path(dir), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := one("10.0.0.1:9000", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if got, err := Load(dir, away(s)); err != nil || !got.equal(want) {
		t.Errorf("Load = %v, %v, want %v", got, err, want)
	}
}

// What is saved under a limit can be loaded under it, and nothing larger is saved.
func TestS14_OneLimitForBothWays(t *testing.T) {
	dir, s := t.TempDir(), source("k")
	var endpoints []endpoint.Endpoint
	for range 1000 {
		endpoints = append(endpoints, endpoint.Endpoint{Instance: "a", Addr: "10.0.0.1:9000"})
	}
	if err := Save(dir, s, Snapshot{Endpoints: endpoints}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.path(dir))
	if err != nil {
		t.Fatal(err)
	}
	size := int(info.Size())
	if err := save(dir, s, Snapshot{Endpoints: endpoints}, size); err != nil {
		t.Error(err)
	}
	if got, err := load(dir, away(s), int64(size)); err != nil || len(got.Endpoints) != 1000 {
		t.Errorf("%d endpoints, %v", len(got.Endpoints), err)
	}
	if err := save(dir, s, Snapshot{Endpoints: endpoints[1:]}, size/2); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a file beyond the limit is saved: %v", err)
	}
	if got, err := load(dir, away(s), int64(size)); err != nil || len(got.Endpoints) != 1000 {
		t.Errorf("the file of before is not there: %d endpoints, %v", len(got.Endpoints), err)
	}
	if _, err := load(dir, away(s), int64(size)-1); err == nil {
		t.Error("a file beyond the limit is loaded")
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left over: %v, %v", files, err)
	}
}
