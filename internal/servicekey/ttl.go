package servicekey

import "time"

// The bounds of a lease's TTL. A server that has been dead for a day should not be found.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// ValidTTL reports whether a lease may have the TTL, which etcd counts in whole seconds.
func ValidTTL(ttl time.Duration) bool {
	return minTTL <= ttl && ttl <= maxTTL && ttl%time.Second == 0
}
