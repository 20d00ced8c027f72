package servicekey

import "time"

// These bound a lease's TTL. Callers should not find a server that has been dead for a day.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// ValidTTL reports whether a lease may have the TTL, which etcd counts in whole seconds.
func ValidTTL(ttl time.Duration) bool {
	return minTTL <= ttl && ttl <= maxTTL && ttl%time.Second == 0
}
