package balancer

import (
	"encoding/json"
	"sync"
)

// claims holds the configs that Claim has marked and gRPC may be about to parse. All connections of a
// process share it, because gRPC does not tell a policy's parser which connection it parses for.
var claims = claimed{parsed: make(map[uint64]bool)}

type claimed struct {
	mu     sync.Mutex
	last   uint64
	parsed map[uint64]bool // whether gRPC parsed each claim, until effective is called
}

// note records that gRPC parsed a config with a claim, 0 for none.
func (c *claimed) note(claim uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, made := c.parsed[claim]; made {
		c.parsed[claim] = true
	}
}

// Claim marks a service config to hand to gRPC, and returns a function that reports whether gRPC parsed
// it. grpc.NewClient parses only the default service config that is in force, so call effective after it
// has returned. Until then the claim is kept in memory. A config whose first policy is not "etcd" is
// returned as it is, and is never effective.
func Claim(config string) (marked string, effective func() bool) {
	never := func() bool { return false }
	var doc map[string]json.RawMessage
	var policies []map[string]map[string]json.RawMessage
	if json.Unmarshal([]byte(config), &doc) != nil ||
		json.Unmarshal(doc["loadBalancingConfig"], &policies) != nil || len(policies) == 0 || policies[0][Name] == nil {
		return config, never
	}
	claims.mu.Lock()
	claims.last++
	claim := claims.last
	claims.parsed[claim] = false
	claims.mu.Unlock()
	effective = sync.OnceValue(func() bool {
		claims.mu.Lock()
		defer claims.mu.Unlock()
		defer delete(claims.parsed, claim)
		return claims.parsed[claim]
	})
	// Marshalling what was just unmarshalled does not fail.
	policies[0][Name]["claim"], _ = json.Marshal(claim)
	doc["loadBalancingConfig"], _ = json.Marshal(policies)
	text, _ := json.Marshal(doc)
	return string(text), effective
}
