package main

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// leaderPrefix is where the candidates for the leadership of services are.
const leaderPrefix = servicekey.LeaderSegment + "/"

// evident tells that this is a service rather than something else that is kept in etcd, such as a lock, or a setting that
// happens to be an address: it has a live service config, or an entry that nothing but a server writes.
func (s *service) evident() bool {
	return s.config != nil || slices.ContainsFunc(s.instances, s.isServers) || slices.ContainsFunc(s.malformed, s.isServersFault)
}

// isServers reports whether a well-formed entry is a server's: it is named by an address, or on a lease that it is not a
// lock's, or in the JSON of a framework. JSON that only resembles one may be a setting.
func (s *service) isServers(i instance) bool {
	switch {
	case isAddress(i.Instance):
		return true
	case i.layout.JSON() && writerOf(s.key, i.entry) != "" && !s.isMapped(i):
		return true
	}
	return i.entry.lease != 0 && !isLock(i.entry)
}

// isServersFault reports whether a malformed entry is a server's: it is named by an address or by its lease, or in the
// JSON of a framework, or on a lease with something that was to be an address.
func (s *service) isServersFault(i instance) bool {
	e := i.entry
	switch {
	case isAddress(i.Instance), writerOf(s.key, e) != "":
		return true
	case e.lease == 0 || isLock(e):
		return false
	}
	return strings.HasSuffix(e.key, strconv.FormatInt(e.lease, 10)) || wantsAddress(string(e.value))
}

func isAddress(text string) bool { return endpoint.CheckAddr(text, true) == nil }

// isLock reports whether an entry has the name that etcd's locks and elections give theirs: the id of its lease, in
// hexadecimal.
func isLock(e entry) bool { return e.lease != 0 && e.name() == strconv.FormatInt(e.lease, 16) }

// wantsAddress reports whether a text that clients cannot read was to be an address, or an object with one.
func wantsAddress(value string) bool {
	value = strings.Trim(strings.TrimSpace(value), "\"'\x00\ufeff") // as encoders and editors put around text
	value = strings.TrimSuffix(value, "/")
	if strings.HasPrefix(value, "{") {
		return slices.ContainsFunc([]string{`"Addr"`, `"addr"`, `"address"`, `"endpoints"`, `"nodes"`}, func(name string) bool {
			return strings.Contains(value, name)
		})
	}
	scheme, rest, found := strings.Cut(value, ":")
	if found && slices.Contains([]string{"grpc", "grpcs", "dns", "passthrough", "unix", "etcd"}, scheme) && strings.HasPrefix(rest, "/") {
		return true
	}
	for part := range strings.SplitSeq(value, ",") {
		if !resemblesAddress(strings.TrimSpace(part)) {
			return false
		}
	}
	return true
}

// resemblesAddress reports whether a text is an IP address alone, a port alone, or a host and a number that may be no port.
func resemblesAddress(text string) bool {
	if net.ParseIP(strings.Trim(text, "[]")) != nil {
		return true
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return false
	}
	_, err := strconv.Atoi(text[colon+1:])
	return err == nil && colon == 0 || (err == nil || colon == len(text)-1) && isAddress(text[:colon]+":1")
}
