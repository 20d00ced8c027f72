package survey

import (
	"encoding/json"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// The names that fields of home-made JSON are likely to have, the likeliest first, as normalName returns them.
var (
	addrNames = []string{"grpcaddr", "grpcaddress", "grpcendpoint", "grpc", "rpcaddr", "rpcaddress", "rpc",
		"addr", "address", "endpoint", "hostport", "host", "target", "server", "node", "listen", "url", "ip"}
	hostNames     = []string{"host", "ip", "hostname", "addr", "address", "server"}
	portNames     = []string{"grpcport", "rpcport", "port", "serverport"}
	instanceNames = []string{"instance", "instanceid", "id", "nodeid", "serverid", "uuid"}
	versionNames  = []string{"version", "ver", "v", "appversion", "serviceversion"}
	zoneNames     = []string{"zone", "az", "availabilityzone", "idc", "datacenter", "dc"}
	weightNames   = []string{"weight", "w"}
	metadataNames = []string{"metadata", "meta", "labels", "tags", "attributes", "attrs"}
	ServiceNames  = []string{"name", "service", "servicename", "svc", "app"}
)

// NormalName returns a field's name in lower case, without separators.
func NormalName(name string) string { return separators.Replace(strings.ToLower(name)) }

// To make one takes longer than to use it, and a key of etcd may have a hundred thousand segments.
var separators = strings.NewReplacer("_", "", "-", "", ".", "")

// maxColumns bounds the fields that are looked at. Clients do not read an endpoint with more metadata either.
const maxColumns = endpoint.MaxMetadata

// columns holds the values of each field in the objects of a service.
type columns map[string][]json.RawMessage

// columnsOf returns the columns of objects that isObject accepts, without the fields that no option can name.
func columnsOf(objects [][]byte) columns {
	c := make(columns)
	for _, object := range objects {
		rawjson.Members(object, func(rawName, value []byte) bool {
			name := string(rawName)
			_, known := c[name]
			if known || len(c) < maxColumns && name != "" && len(name) <= endpoint.MaxField && utf8.ValidString(name) {
				c[name] = append(c[name], value)
			}
			return true
		})
	}
	return c
}

// AddressIn returns the address that an object seems to have in a field for its host and one for its port, "" for none.
func AddressIn(object []byte) string {
	c := columnsOf([][]byte{object})
	fields, _ := c.address()
	if fields.Host == "" {
		return ""
	}
	return rawjson.Text(c[fields.Host][0]) + ":" + rawjson.Text(c[fields.Port][0])
}

// IsObject reports whether a value is a JSON object that clients would look at.
func IsObject(value []byte) bool {
	start := rawjson.SkipSpace(value)
	return len(start) > 0 && start[0] == '{' && len(value) <= endpoint.MaxValue && utf8.Valid(value) && json.Valid(value)
}

// count returns how many values of a field fit.
func (c columns) count(name string, fits func(json.RawMessage) bool) (n int) {
	for _, value := range c[name] {
		if fits(value) {
			n++
		}
	}
	return n
}

// pick returns the field that has one of the names and the most values that fit, and how many fit. In a tie, the
// likeliest name wins.
func (c columns) pick(names []string, fits func(json.RawMessage) bool) (field string, most int) {
	best := 0
	for _, name := range slices.Sorted(maps.Keys(c)) {
		rank := slices.Index(names, NormalName(name))
		if rank < 0 {
			continue
		}
		if n := c.count(name, fits); n > most || n > 0 && n == most && rank < best {
			field, most, best = name, n, rank
		}
	}
	return field, most
}

// drop removes the fields that have a meaning.
func (c columns) drop(fields endpoint.JSONFields) {
	for _, name := range fields.All {
		delete(c, name)
	}
}

// inferFields guesses what the fields of a service's home-made JSON mean. If no value is an address it goes by the names
// alone, so that errors can say what is wrong with the address. rivals are other fields that hold addresses. The fields
// may not be a valid layout.
func inferFields(key string, objects [][]byte) (fields endpoint.JSONFields, rivals []string) {
	c := columnsOf(objects)
	fields, ok := c.address()
	if !ok {
		fields.Addr, _ = c.pick(addrNames, func(value json.RawMessage) bool { return value[0] == '"' })
	}
	c.drop(fields)
	if name, _ := c.pick(instanceNames, isInstance); c.distinct(name) {
		fields.Instance = name
	}
	fields.Version, _ = c.pick(versionNames, isWord)
	fields.Zone, _ = c.pick(zoneNames, isWord)
	fields.Weight, _ = c.pick(weightNames, isWord)
	fields.Metadata, _ = c.pick(metadataNames, isMetadata)
	last := LastSegment(key)
	fields.Name, _ = c.pick(ServiceNames, func(value json.RawMessage) bool { return value[0] == '"' && rawjson.Text(value) == last })
	c.drop(fields)
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c.count(name, looksLikeAddr) > 0 {
			rivals = append(rivals, name)
		}
	}
	return fields, rivals
}

// address returns the fields of the address: one with a likely name, host and port, or any one that holds addresses.
func (c columns) address() (fields endpoint.JSONFields, ok bool) {
	known, named := c.pick(addrNames, isAddr)
	host, hosts := c.pick(hostNames, isHost)
	port, ports := c.pick(portNames, isPort)
	pairs := min(hosts, ports)
	other, others := "", 0
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if n := c.count(name, looksLikeAddr); n > others {
			other, others = name, n
		}
	}
	switch {
	case named > 0 && named >= pairs && named*2 >= others:
		return endpoint.JSONFields{Addr: known}, true
	case pairs > 0 && pairs*2 >= others:
		return endpoint.JSONFields{Host: host, Port: port}, true
	}
	return endpoint.JSONFields{Addr: other}, others > 0
}

// distinct reports whether the values of a field are instance ids, and all different.
func (c columns) distinct(name string) bool {
	seen := make(map[string]bool)
	for _, value := range c[name] {
		text := rawjson.Text(value)
		if !isInstance(value) || seen[text] {
			return false
		}
		seen[text] = true
	}
	return len(seen) > 0
}

func isAddr(value json.RawMessage) bool {
	return value[0] == '"' && endpoint.CheckAddr(rawjson.Text(value), true) == nil
}

// leastPort is the least port of a server whose host is a bare word: what is below is the tag of an image.
const leastPort = 80

// looksLikeAddr reports whether the value of a field with any name is an address, rather than a time or an image with its tag.
func looksLikeAddr(value json.RawMessage) bool {
	if !isAddr(value) {
		return false
	}
	host, port, err := net.SplitHostPort(rawjson.Text(value))
	if err != nil || strings.Trim(host, "0123456789") == "" {
		return false
	}
	number, err := strconv.Atoi(port)
	return err == nil && (number >= leastPort || strings.ContainsAny(host, ".:"))
}

func isHost(value json.RawMessage) bool {
	return value[0] == '"' && endpoint.CheckAddr(net.JoinHostPort(rawjson.Text(value), "1"), true) == nil
}

func isPort(value json.RawMessage) bool {
	return isWord(value) && endpoint.CheckAddr("h:"+rawjson.Text(value), true) == nil
}

func isInstance(value json.RawMessage) bool {
	return isWord(value) && endpoint.CheckInstance(rawjson.Text(value)) == nil
}

func isWord(value json.RawMessage) bool {
	kind := KindOf(value)
	return kind == "a string" || kind == "a number"
}

func isMetadata(value json.RawMessage) bool { return value[0] == '{' || value[0] == 'n' }

// KindOf names the kind of a JSON value.
func KindOf(value []byte) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
