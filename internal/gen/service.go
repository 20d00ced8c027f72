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
	return keyRight
}

func checkLeaseTTL(at spot, ttl *durationpb.Duration) {
	if ttl == nil {
		return
	}
	d, ok := duration(at, ttl)
	if !ok {
		return
	}
	if d < time.Second || d > maxLeaseTTL || d%time.Second != 0 {
		at.problem("is %v: give it whole seconds, from 1s to 24h", d)
	}
}

// duration returns d, or notes that it is none.
func duration(at spot, d *durationpb.Duration) (time.Duration, bool) {
	if d.CheckValid() != nil {
		at.problem("is no duration (seconds: %d, nanos: %d): seconds and nanos have one sign, and nanos are less than a second", d.GetSeconds(), d.GetNanos())
		return 0, false
	}
	return d.AsDuration(), true
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
	host, port, found := cutPort(authority)
	if found {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("has the port %q: give it one from 1 to 65535, or none", port)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if ip, err := netip.ParseAddr(inner); !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
			return errors.New("has no IPv6 address in its brackets")
		}
		return nil
	}
	if err := checkHost(strings.TrimSuffix(host, ".")); err != nil {
		return fmt.Errorf("%w: give it a host or host:port, such as \"user.acme.com\"", err)
	}
	return nil
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
		return errors.New("is longer than the 253 bytes of a host name")
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return errors.New("is no valid host: it is empty, or a part between two dots is")
		case len(label) > 63:
			return fmt.Errorf("is no valid host: %q is longer than 63 bytes", label)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fmt.Errorf("is no valid host: %q begins or ends with a hyphen", label)
		}
	}
	for _, r := range host {
		if !isHostRune(r) {
			return fmt.Errorf("is no valid host: it has the character %q", r)
		}
	}
	return nil
}

func isHostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.'
}
