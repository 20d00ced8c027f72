package targets

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestCatalog(t *testing.T) {
	c := newCatalog(Port{})
	put := func(key, value string) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: 1}}
	}
	targets := func() (all []string) {
		t.Helper()
		text, known, err := c.json()
		if err != nil || !known {
			t.Fatal(known, err)
		}
		var groups []Group
		if err := json.Unmarshal(text, &groups); err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			all = append(all, g.Targets...)
		}
		return all
	}
	if _, known, _ := c.json(); known {
		t.Error("the targets are known before they are listed")
	}
	c.replace(map[string]survey.Entry{"acme/user/a": {Key: "acme/user/a", Value: []byte("10.0.0.7:1"), Lease: 1}})
	if got := targets(); !slices.Equal(got, []string{"10.0.0.7:1"}) {
		t.Errorf("after the list: %q", got)
	}
	c.apply([]*clientv3.Event{put("acme/user/b", "10.0.0.8:1"), {Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte("acme/user/a")}}})
	if got := targets(); !slices.Equal(got, []string{"10.0.0.8:1"}) {
		t.Errorf("after a change: %q", got)
	}
	c.apply([]*clientv3.Event{put("acme/user/c", strings.Repeat("x", 2*endpoint.MaxValue))})
	if got := len(c.entries["acme/user/c"].Value); got > endpoint.MaxValue+1 {
		t.Errorf("%d bytes are kept of a value that is too long", got)
	}
	c.replace(nil)
	if text, _, _ := c.json(); string(text) != "[]" {
		t.Errorf("no targets are %s", text)
	}
}
