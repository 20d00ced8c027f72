package endpoint

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// GoFrame is the layout of GoFrame.
var GoFrame = layout(format{
	name:     "go_frame",
	constant: "GoFrame",
	ends:     atAddr,
	encode:   encodeGoFrame,
	json:     true,
	dialect: dialect{
		where:  "key that ends in host:port (GoFrame)",
		readAt: goFrame,
	},
	onJSON: goFrameFails,
	onBare: goFrameFails,
})

const goFrameFails = "GoFrame's own reader panics at a key that does not end in host:port, or gives up on the whole list because of its value"

// encodeGoFrame writes the value of GoFrame's etcd registry, the metadata
// alone: the address is in the etcd key. GoFrame's reader panics at an address
// with more than one colon.
func encodeGoFrame(_ Layout, key string, e Endpoint) ([]byte, error) {
	if _, ok := goFrameAddr(e.Addr); !ok {
		return nil, fmt.Errorf(
			"address %q: GoFrame's own readers panic at an IPv6 address", e.Addr)
	}

	all := e.members()
	var d document
	for name := range all {
		d.set([]byte(name), []byte("0"))
	}

	if other, taken := d.claimed(); taken {
		return nil, fmt.Errorf("the metadata has a name under which the layout %v has the address: GoFrame's entries are metadata alone, so readers would read this entry in that layout: rename it",
			other)
	}

	value, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}

	if _, _, err := goFrame(key, e.Addr, value); err != nil {
		return nil, fmt.Errorf(
			"readers would not accept the metadata as a GoFrame entry: %w", err)
	}

	return value, nil
}

// goFrameAddr returns the first address in instance, the last segment of a
// GoFrame key. The segment is host:port or, separated by commas, several
// addresses of one server.
func goFrameAddr(instance string) (addr string, ok bool) {
	addr, _, _ = strings.Cut(instance, ",")
	return addr, strings.Count(addr, ":") == 1 && CheckAddr(addr, true) == nil
}

// IsGoFrameKey reports whether a service key has the five parts that GoFrame's
// servers use: /service/DEPLOYMENT/NAMESPACE/NAME/VERSION.
func IsGoFrameKey(key string) bool {
	return strings.HasPrefix(key, "/service/") && strings.Count(key, "/") == 5
}

// goFrame reads a GoFrame entry. ok is false if the key does not end in an
// address. err is not nil if the value is likely JSON of another format, whose
// keys may end in an address, too.
func goFrame(key, instance string, value []byte) (e Endpoint, ok bool, err error) {
	addr, ok := goFrameAddr(instance)
	if !ok {
		return e, false, nil
	}

	value = rawjson.SkipSpace(value)
	if err := checkGoFrame(key, instance, value); err != nil {
		return e, true, err
	}

	e.Addr = addr
	e.take(value)

	return e, true, nil
}

// checkGoFrame returns an error if an object is unlikely to be bare metadata.
// Under a key in GoFrame's form, it rejects only an object that both nests and
// names an address. Under other keys, it rejects an object that nests, or that
// names an address which the key lacks.
func checkGoFrame(key, instance string, object []byte) error {
	nested, addrs := lookInto(object)
	ownKey := IsGoFrameKey(key)
	if nested != "" && (!ownKey || len(addrs) > 0) {
		return fmt.Errorf("JSON that names no address, and whose field %.80q nests: GoFrame's metadata must be flat, except without an address and under a key such as /service/default/default/user/latest",
			nested)
	}

	if ownKey {
		return nil
	}

	inKey := strings.Split(instance, ",")
	for _, addr := range addrs {
		if !slices.Contains(inKey, addr) {
			return fmt.Errorf("JSON whose address may be %q, although its key ends in %.80q: name its fields in a json_layout",
				addr, instance)
		}
	}

	return nil
}

// addrWords are the words in the names of fields in which home-made JSON may
// have an address, in lower case.
var addrWords = []string{"addr", "endpoint", "grpc", "rpc", "host", "listen", "target"}

// lookInto returns the name of a field that holds an object or an array, and
// the values that could be the address of home-made JSON.
func lookInto(object []byte) (nested string, addrs []string) {
	var host, port string

	rawjson.Members(object, func(rawName, raw []byte) bool {
		name := strings.ToLower(string(rawName))
		value := word(raw)
		inName := func(part string) bool { return strings.Contains(name, part) }

		switch {
		case raw[0] == '{' || raw[0] == '[':
			nested = string(rawName)
		case name == "host" || name == "ip":
			host = value
		case name == "port":
			port = value
		case slices.ContainsFunc(addrWords, inName):
			addrs = append(addrs, value)
		}

		return true
	})

	addrs = append(addrs, host, net.JoinHostPort(host, port))

	return nested, slices.DeleteFunc(addrs, func(addr string) bool {
		return CheckAddr(addr, true) != nil
	})
}
