package survey

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// writers are the frameworks whose entries are known by what only they write. The names are the fields of the JSON.
var writers = []struct {
	name   string
	fields []string
}{
	{goMicro, []string{"name", "nodes"}},
	{"kratos", []string{"id", "name", "endpoints"}},
	{"kitex", []string{"network", "address", "weight"}},
	{"dubbo-go", []string{"ServiceName", "Host", "Port"}},
	{nacosStyle, []string{"ip", "port", "instanceId"}},
	{nacosStyle, []string{"ip", "port", "clusterName"}},
	{nacosStyle, []string{"ip", "port", "ephemeral"}},
}

const (
	goMicro    = "go-micro"
	nacosStyle = "a registry in the style of Nacos"
)

// WriterOf returns the name of the framework that seems to have written an entry, "" if no framework is known to write
// such. Both the entries that clients read and those that they cannot have writers.
func WriterOf(key string, e Entry) string {
	if strings.HasPrefix(key, "/dubbo/") && strings.HasSuffix(key, "/providers") && isDubboURL(e.Name()) {
		return "dubbo-go, by interface,"
	}
	if e.Lease != 0 && e.Key == key+"/"+strconv.FormatInt(e.Lease, 10) {
		return "go-zero"
	}
	if !IsObject(e.Value) {
		return ""
	}
	names := namesIn(e.Value)
	for _, w := range writers {
		if !slices.ContainsFunc(w.fields, func(field string) bool { return !names[field] }) {
			if w.name != goMicro || hasMicroNodes(e.Value) {
				return w.name
			}
		}
	}
	switch {
	case names["Addr"] && endpoint.AreTheirs(names):
		return "etcd's naming package"
	case endpoint.IsGoFrameKey(key):
		return "GoFrame"
	}
	return ""
}

// hasMicroNodes reports whether the nodes of an object are go-micro's. Gateways have nodes of upstreams, which have no ids.
func hasMicroNodes(object []byte) bool {
	var its struct {
		Nodes []struct {
			ID      *string `json:"id"`
			Address *string `json:"address"`
		} `json:"nodes"`
	}
	if json.Unmarshal(object, &its) != nil || len(its.Nodes) == 0 {
		return false
	}
	return its.Nodes[0].ID != nil && its.Nodes[0].Address != nil
}

// MicroName returns the name that an entry of go-micro's gives its service, "" for none.
func MicroName(e Entry) string {
	var its struct{ Name string }
	if json.Unmarshal(e.Value, &its) != nil {
		return ""
	}
	return its.Name
}

// isDubboURL reports whether a name is a URL of dubbo-go's registry by interface, in which each provider is a key.
func isDubboURL(name string) bool { return strings.Contains(Unescaped(name), "://") }

// Unescaped returns a name without the escapes of URLs, "" if it has bad ones.
func Unescaped(name string) string {
	text, err := url.QueryUnescape(name)
	if err != nil {
		return ""
	}
	return text
}
