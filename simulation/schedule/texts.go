package schedule

import (
	"fmt"
	"slices"
	"strings"
)

// policies are service configs, of callers or put by operators.
var policies = []string{
	`{"loadBalancingConfig":[{"round_robin":{}}]}`,
	`{"loadBalancingConfig":[{"etcd_weighted":{}}]}`,
	`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":2}}]}`,
	`{"loadBalancingConfig":[{"pick_first":{}}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"preferZone":true}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"preferZone":true,"childPolicy":[{"etcd_weighted":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":20},{"match":{"version":"v1"},"weight":80}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v2"},"weight":100},{"match":{"version":""},"weight":0}],"preferZone":true}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"zone":"east"},"weight":1}],"childPolicy":[{"least_request_experimental":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd_peak_ewma":{}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"slowStart":{"window":"4s","minPercent":20}}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"slowStart":{"window":"2s"},"childPolicy":[{"etcd_peak_ewma":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"maxConcurrentRequests":2,"childPolicy":[{"etcd_weighted":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"maxConcurrentRequests":2,"preferZone":true,"zoneMinPercent":80}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"preferZone":true,"zoneMinPercent":50,"subset":3}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"subset":2}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"route":[{"label":"version"}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"route":[{"lane":"v2","match":{"version":"v2"},"strict":true}],"childPolicy":[{"etcd_weighted":{}}]}}]}`,
	`{"loadBalancingConfig":[{"etcd":{"route":[{"label":"version"}],"preferZone":true,"maxConcurrentRequests":2}}]}`,
	`{"methodConfig":[{"name":[{}],"timeout":"1.500s"}]}`,
	`{"methodConfig":[{"name":[{}],"waitForReady":true,"timeout":"2s"}],"loadBalancingConfig":[{"round_robin":{}}]}`,
}

// badConfigs are live configs that clients refuse.
var badConfigs = []string{
	``, `{`, `null`, `[]`, `{"loadBalancingConfig":[{"no_such_policy":{}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{}}]}`, `{"loadBalancingConfig":[{"etcd":null}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`, `{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":67108864}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[]}}],"surplus":1}`,
}

// badEntries are values that no reader may dial.
var badEntries = []string{
	``, `{`, `[]`, `null`, `unix:/x`, `dns:///x`, "10.9.0.1:80\n10.9.0.2:80", `{"Addr":""}`, `{"Addr":"10.9.0.1:99999"}`,
	`{"Addr":"unix:/x"}`, `{"name":"shop","endpoints":[]}`, `{"network":"unix","address":"/x"}`, strings.Repeat("x", 5000),
}

// neighbours are keys outside of all services that resemble their keys.
var neighbours = []string{"acme/shop2/10.9.1.1:80", "acme/shop-admin/10.9.1.2:80", "acme/shopx", "acme/shop", "acme/sho/p"}

// BadConfig reports whether clients refuse a live config.
func BadConfig(config string) bool { return slices.Contains(badConfigs, config) }

// Drain returns the live config that drains an instance.
func Drain(instance string) string {
	return fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{"drain":[%q]}}]}`, instance)
}
