package endpoint

import (
	"errors"
	"strconv"
)

// Plain is the bare address under the instance id.
var Plain = layout(format{
	name:     "plain",
	constant: "Plain",
	ends:     atInstance,
	encode:   encodePlain,
})

// LeaseSuffix is the bare address under the lease id, without a slash between
// the lease id and the service key.
var LeaseSuffix = layout(format{
	name:     "lease_suffix",
	constant: "LeaseSuffix",
	encode:   encodePlain,
	ends: &place{"<key><lease id>", true, func(_ Endpoint, lease int64) string {
		return strconv.FormatInt(lease, 10)
	}},
})

// GoZero is the layout of go-zero: the bare address under the lease id.
var GoZero = layout(format{
	name:     "go_zero",
	constant: "GoZero",
	encode:   encodePlain,
	ends: &place{"<key>/<lease id>", true, func(_ Endpoint, lease int64) string {
		return "/" + strconv.FormatInt(lease, 10)
	}},
})

func encodePlain(_ Layout, _ string, e Endpoint) ([]byte, error) {
	return []byte(e.Addr), nil
}

func decodePlain(value []byte) (Endpoint, error) {
	// A longer value is not host:port, so it need not be copied.
	if len(value) > 512 {
		return Endpoint{}, errors.New("the value is neither host:port nor JSON")
	}

	addr := string(value)
	if err := CheckAddr(addr, true); err != nil {
		return Endpoint{}, err
	}

	return Endpoint{Addr: addr}, nil
}
