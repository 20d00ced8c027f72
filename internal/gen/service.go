package gen

import (
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
		if err := servicekey.CheckAuthority(authority); err != nil {
			s.option.in("authority").problem("%q %v", authority, err)
		}
		return
	}
	if !keyRight {
		return
	}
	if authority, ok := servicekey.Authority(s.options.GetKey()); !ok {
		s.option.in("key").problem("%q gives the authority %q, which is no valid host: set authority, the name that TLS checks the servers' certificates against",
			s.options.GetKey(), authority)
	}
}
