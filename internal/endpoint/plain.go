package endpoint

import "fmt"

func encodePlain(_ Layout, _ string, e Endpoint) ([]byte, error) { return []byte(e.Addr), nil }

func decodePlain(value []byte) (Endpoint, error) {
	// Longer than any host:port can be: not to be copied.
	if len(value) > 512 {
		return Endpoint{}, fmt.Errorf("%d bytes that are neither host:port nor JSON", len(value))
	}
	addr := string(value)
	if err := CheckAddr(addr, true); err != nil {
		return Endpoint{}, err
	}
	return Endpoint{Addr: addr}, nil
}
