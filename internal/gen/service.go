package gen

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// The longest lease_ttl that is of any use: what has been dead for a day should not
// be found.
const maxLeaseTTL = 24 * time.Hour

// checkService notes what is wrong with the options of one service but for what
// concerns others too, and tells whether its key is right.
func checkService(s *service) (keyRight bool) {
	checkNewer(s.option, s.options.ProtoReflect())
	keyRight = checkKey(s)
	checkAuthority(s, keyRight)
	checkLeaseTTL(s.option.in("lease_ttl"), s.options.GetLeaseTtl())
	checkLoadBalancing(s.option.in("load_balancing"), s.options.GetLoadBalancing())
	for _, m := range s.methods {
		checkMethod(m)
		checkAffinity(m, s.options.GetLoadBalancing())
	}
	checkAffinityClient(s)
	return keyRight
}

func checkLeaseTTL(at spot, ttl *durationpb.Duration) {
	if isDuration(at, ttl) && !validTTL(ttl) {
		at.problem("is %s: give it whole seconds, from 1s to 24h (86400s)", durationJSON(ttl))
	}
}

// validTTL tells whether a lease_ttl is right, or left out.
func validTTL(ttl *durationpb.Duration) bool {
	d := ttl.AsDuration()
	return ttl == nil || ttl.IsValid() && d >= time.Second && d <= maxLeaseTTL && d%time.Second == 0
}

// isDuration notes what is none by its fields. One that is left out is right.
func isDuration(at spot, d *durationpb.Duration) bool {
	if d == nil || d.IsValid() {
		return true
	}
	at.problem("is no duration (seconds: %d, nanos: %d): one has at most 315576000000 seconds, and nanos of their sign and less than a second", d.GetSeconds(), d.GetNanos())
	return false
}

// checkAuthority looks at the authority that is given, or else at what the key gives.
func checkAuthority(s *service, keyRight bool) {
	if authority := s.options.GetAuthority(); authority != "" {
		if err := checkHostPort(authority); err != nil {
			s.option.in("authority").problem("%q %v", authority, err)
		}
		return
	}
	if !keyRight {
		return
	}
	if authority := servicekey.Authority(s.options.GetKey()); checkHost(authority) != nil {
		s.option.in("key").problem("%q gives the authority %q, which is no valid host: set authority, the name that TLS checks the servers' certificates against",
			s.options.GetKey(), authority)
	}
}

// checkHostPort takes a host, with or without a port.
func checkHostPort(authority string) error {
	for _, r := range authority {
		if !isHostRune(r) && !strings.ContainsRune(":[]", r) {
			return fmt.Errorf(`has the character %q: give it a host or host:port, such as "user.acme.com"`, r)
		}
	}
	host, port, found := cutPort(authority)
	if found {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("has the port %q: give it one from 1 to 65535, or none", port)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if ip, err := netip.ParseAddr(inner); !ok || err != nil || !ip.Is6() {
			return errors.New("has brackets: give it an IPv6 address between them, or leave them out")
		}
		return nil
	}
	return checkHost(strings.TrimSuffix(host, "."))
}

// cutPort cuts what follows the host's colon.
func cutPort(authority string) (host, port string, found bool) {
	if strings.HasSuffix(authority, "]") || !strings.Contains(authority, ":") {
		return authority, "", false
	}
	i := strings.LastIndexByte(authority, ':')
	return authority[:i], authority[i+1:], true
}

// checkHost takes a name that certificates can be issued for, and IPv4 addresses.
func checkHost(host string) error {
	if len(host) > 253 {
		return errors.New("is longer than the 253 bytes of a host name: give it a shorter one")
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return errors.New("has no host, or an empty part beside a dot: give it a host or host:port, such as \"user.acme.com\"")
		case len(label) > 63:
			return fmt.Errorf("is no host, for %q is longer than 63 bytes: give it a shorter one", label)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("is no host, for %q begins or ends with a hyphen: leave that out", label)
		}
	}
	for _, r := range host {
		if !isHostRune(r) {
			return fmt.Errorf("is no host, for it has the character %q: put an IPv6 address in brackets", r)
		}
	}
	return nil
}

func isHostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.'
}
