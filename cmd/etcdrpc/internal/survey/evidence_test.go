package survey

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestWantsAddress(t *testing.T) {
	for value, want := range map[string]bool{
		"10.0.0.7":                      true,
		"10.0.0.7:":                     true,
		":9000":                         true,
		":x":                            false,
		"10.0.0.7:99999":                true,
		"user:0":                        true,
		"10.0.0.7:80,10.0.0.8:80":       true,
		"grpc://10.0.0.7:9000":          true,
		"dns:///user:9000":              true,
		"unix:/run/user.sock":           true,
		`{"Addr":"10.0.0.7`:             true,
		`{"since":"2026"}`:              false,
		"":                              false,
		"hello":                         false,
		"started by worker 3":           false,
		"http://10.0.0.7:8080":          false,
		"postgres://10.0.0.7:5432/user": false,
		"2026-01-02T03:04:05Z":          false,
		"k8s\x00\n\x02v1":               false,
	} {
		if got := wantsAddress(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// TestFaulty tells what is kept beside servers from what a server was to write.
func TestFaulty(t *testing.T) {
	const homeMade = `{"ServerID":5,"ServerName":"proxy","Address":"10.0.0.1:19529","Exclusive":false}`
	for _, tt := range []struct {
		name, beside, key, value string
		lease                    int64
		want                     bool
	}{
		{"a counter", homeMade, "id", "6", 0, true},
		{"the name of a leader", homeMade, "leader", "proxy-5", 7, true},
		{"nothing", homeMade, "lock", "", 7, true},
		{"half an object", homeMade, "proxy-6", `{"ServerID":6,"Addre`, 7, false},
		{"an object without an address", homeMade, "proxy-6", `{"ServerID":6}`, 7, false},
		{"an address without a port", homeMade, "proxy-6", "10.0.0.2", 0, false},
		{"what is named by an address", homeMade, "10.0.0.2:19529", "6", 0, false},
		{"what is named by its lease", homeMade, "7", "6", 7, false},
		{"a counter beside a known layout", "10.0.0.1:19529", "id", "6", 0, false},
	} {
		s, _ := Of("by-dev/session", []Entry{
			{Key: "by-dev/session/proxy-5", Value: []byte(tt.beside), Lease: 6},
			{Key: "by-dev/session/" + tt.key, Value: []byte(tt.value), Lease: tt.lease},
		})
		if len(s.Instances) != 1 || len(s.Malformed) != 1 {
			t.Errorf("%s: %+v", tt.name, s)
			continue
		}
		if aside := len(s.Faulty()) == 0; aside != tt.want {
			t.Errorf("%s: kept beside servers: %v, want %v", tt.name, aside, tt.want)
		}
	}
}

// TestProven tells services from what other programs keep in etcd.
func TestProven(t *testing.T) {
	const lease = 1234567890123456789
	for _, tt := range []struct {
		name string
		want bool
		all  map[string]string // @ is the lease
	}{
		{"an address on a lease", false, map[string]string{"services/leader": "10.0.0.1:7000"}},
		{"several", true, map[string]string{"services/a": "10.0.0.1:7000", "services/b": "10.0.0.2:7000"}},
		{"several times one", false, map[string]string{"leaders/a": "10.0.0.1:7000", "leaders/b": "10.0.0.1:7000"}},
		{"several of DNS", false, map[string]string{"/skydns/web/a": `{"host":"10.0.0.1","port":80}`, "/skydns/web/b": `{"host":"10.0.0.2","port":80}`}},
		{"one that is named by its address", true, map[string]string{"acme/user/10.0.0.1:7000": "10.0.0.1:7000"}},
		{"one that is named by its lease", true, map[string]string{"user.rpc/@": "10.0.0.1:7000"}},
		{"one behind its lease", true, map[string]string{"hello@": "10.0.0.1:7000"}},
		{"a framework's", true, map[string]string{"/microservices/user/1": `{"id":"1","name":"user","endpoints":["grpc://10.0.0.1:9000"]}`}},
		{"a counter for a caller", false, map[string]string{"limits/10.0.0.1:7000": "17"}},
		{"the session of a caller", false, map[string]string{"clients/10.0.0.1:7000": `{"since":"2026"}`}},
		{"a live config", true, map[string]string{"_grpc_config/acme/user": "{}"}},
		{"a candidate for the leader", true, map[string]string{"_grpc_leader/acme/user//a": "a"}},
	} {
		var entries []Entry
		for key, value := range tt.all {
			entries = append(entries, Entry{Key: strings.ReplaceAll(key, "@", strconv.FormatInt(lease, 10)), Value: []byte(value), Lease: lease})
		}
		if proven := slices.ContainsFunc(All(entries), (*Service).Proven); proven != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, proven, tt.want)
		}
	}
}
