package gen

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey/conflict"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkKey reports problems of the key of one service, and returns whether the
// key is valid by itself.
func checkKey(s *service) bool {
	key := s.options.GetKey()
	if key == "" {
		if complete(s.options) {
			s.option.in("key").problem(`is missing or empty: give it segments with a single slash between them, such as "acme/user"`)
		}

		return false
	}

	if err := servicekey.Check(key); err != nil {
		s.option.in("key").problem("%q %v", key, err)
		return false
	}

	return true
}

// checkKeys reports keys that are valid alone, but not together. The check
// includes imported files, but reports problems only in files to generate.
func checkKeys(services []*service) {
	sharing := make(map[string][]*service, len(services))
	suffixed := map[string]bool{} // keys that a lease id follows without a slash
	for _, s := range services {
		key := s.options.GetKey()
		sharing[key] = append(sharing[key], s)

		if s.layout() == discoveryv1.Layout_LAYOUT_LEASE_SUFFIX {
			suffixed[key] = true
		}
	}

	for _, s := range services {
		key := s.options.GetKey()
		if sharing[key][0] != s {
			continue // an earlier service has the same key
		}

		checkShared(sharing[key])

		isKey := func(prefix string) bool { return sharing[prefix] != nil }
		outer := conflict.Outer(key, servicekey.Nested, isKey)
		if outer != "" {
			noteOverlap(sharing[outer], sharing[key],
				"lies under",
				"contains",
				"one must not contain the other, name them side by side")
		}

		isSuffixed := func(prefix string) bool { return suffixed[prefix] }
		outer = conflict.Outer(key, servicekey.Continued, isSuffixed)
		if outer != "" {
			noteOverlap(sharing[outer], sharing[key],
				"continues, with a digit,",
				"with LAYOUT_LEASE_SUFFIX is continued, with a digit, by",
				"a lease id continues LAYOUT_LEASE_SUFFIX keys so, end one of them otherwise")
		}
	}
}

// noteOverlap reports that two keys overlap. The problem is at the inner key,
// or at the outer key if only the outer key's file is generated.
func noteOverlap(outer, inner []*service, relation, inverse, cure string) {
	at := generated(inner)
	other := generated(outer)
	if !at.file.Generate {
		at, other, relation = other, at, inverse
	}

	if at.file.Generate {
		at.option.in("key").problem("%q %s the key %q of %v: %s",
			at.options.GetKey(), relation,
			other.options.GetKey(), other.option.in("key"), cure)
	}
}

// generated returns the first service that is in a file to generate or, if
// there is none, the first service.
func generated(services []*service) *service {
	for _, s := range services {
		if s.file.Generate {
			return s
		}
	}

	return services[0]
}

// checkShared reports services that share a key and disagree on the entries
// under it.
func checkShared(services []*service) {
	first := generated(services)
	for _, s := range services {
		at := s
		other := first
		if !at.file.Generate {
			at, other = other, at
		}

		if at == other || !at.file.Generate {
			continue
		}

		layoutsKnown := known(at.options.GetLayout()) && known(other.options.GetLayout())
		if layoutsKnown && at.layoutText() != other.layoutText() {
			at.layoutPosition().problem("is %v, but %v has %v for the same key %q: services that share a key have one layout",
				at.layoutText(),
				other.layoutPosition(), other.layoutText(),
				at.options.GetKey())
		}

		ttl := at.options.GetLeaseTtl()
		otherTTL := other.options.GetLeaseTtl()
		if validTTL(ttl) && validTTL(otherTTL) && !proto.Equal(ttl, otherTTL) {
			at.option.in("lease_ttl").problem("is %s, but %v has %s for the same key %q: services that share a key have one lease_ttl",
				ttlText(ttl),
				other.option.in("lease_ttl"), ttlText(otherTTL),
				at.options.GetKey())
		}
	}
}

func ttlText(ttl *durationpb.Duration) string {
	if ttl == nil {
		return "not set"
	}

	return durationJSON(ttl)
}

// checkTLSNames reports services under different keys that share a TLS name:
// callers of one service would accept the certificates of the other service's
// servers. Services under one key have the same servers, so they may share a
// name. The check includes imported files, but reports problems only in files
// to generate.
func checkTLSNames(services []*service) {
	type nameOfKey struct{ name, key string }

	sharing := make(map[nameOfKey][]*service, len(services))
	var order []nameOfKey
	for _, s := range services {
		key := s.options.GetKey()
		id := nameOfKey{conflict.TLSName(key, s.options.GetAuthority()), key}
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

// noteSharedName reports that the services of two keys share a TLS name. The
// problem is at the later services, or at the earlier services if only their
// files are generated.
func noteSharedName(earlier, later []*service, name string) {
	at := generated(later)
	other := generated(earlier)
	if !at.file.Generate {
		at, other = other, at
	}

	if !at.file.Generate {
		return
	}

	source, text := nameSource(at)
	otherSource, otherText := nameSource(other)
	source.problem("%q gives the TLS name %q, and so does the %s %q of %v: servers of one could pose as the other's, give one an authority of its own",
		text, name, otherSource.field, otherText, otherSource)
}

// nameSource returns the source of a service's TLS name: its authority or its
// key.
func nameSource(s *service) (at position, text string) {
	if authority := s.options.GetAuthority(); authority != "" {
		return s.option.in("authority"), authority
	}

	return s.option.in("key"), s.options.GetKey()
}
