package gen

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"

// checkTLSNames reports services under different keys that share a TLS name: callers of each would accept the
// certificates of the other's servers. Services under one key have the same servers, so they may share a
// name. The check includes files that are not generated, but reports problems only in files that are.
func checkTLSNames(services []*service) {
	type nameOfKey struct{ name, key string }
	sharing := make(map[nameOfKey][]*service, len(services))
	var order []nameOfKey
	for _, s := range services {
		id := nameOfKey{servicekey.TLSName(s.options.GetKey(), s.options.GetAuthority()), s.options.GetKey()}
		if id.name == "" {
			continue
		}
		if sharing[id] == nil {
			order = append(order, id)
		}
		sharing[id] = append(sharing[id], s)
	}
	first := make(map[string]nameOfKey, len(order))
	for _, id := range order {
		if earlier, taken := first[id.name]; taken {
			noteSharedName(sharing[earlier], sharing[id], id.name)
		} else {
			first[id.name] = id
		}
	}
}

// noteSharedName reports that the services of two keys share a TLS name: at the later services, or
// at the earlier ones if only those are generated.
func noteSharedName(earlier, later []*service, name string) {
	at, other := generated(later), generated(earlier)
	if !at.file.Generate {
		at, other = other, at
	}
	if !at.file.Generate {
		return
	}
	from, text := nameSource(at)
	otherFrom, otherText := nameSource(other)
	from.problem("%q gives the TLS name %q, and so does the %s %q of %v: servers of one could pose as the other's, give one an authority of its own",
		text, name, otherFrom.field, otherText, otherFrom)
}

// nameSource returns the source of a service's TLS name: its authority or its key.
func nameSource(s *service) (at position, text string) {
	if authority := s.options.GetAuthority(); authority != "" {
		return s.option.in("authority"), authority
	}
	return s.option.in("key"), s.options.GetKey()
}
