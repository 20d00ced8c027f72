package schedule

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Way is a picking policy with its properties.
type Way struct {
	Name   string // the name of the policy
	config string

	Exact  bool // calls are distributed exactly
	Weighs bool // calls are distributed by weight
	First  bool // all calls of a group go to one instance
	Tied   bool // calls of one affinity go to one instance

	// the policy has a concurrency limit, slow start, proportional zone
	// spillover
	bounds, grows, spills bool
}

// DropUseless drops the options of "etcd" that have no effect on the policy.
func (w Way) DropUseless(options map[string]json.RawMessage) {
	for name, useful := range map[string]bool{
		"maxConcurrentRequests": w.bounds,
		"slowStart":             w.grows,
		"zoneMinPercent":        w.spills,
	} {
		if !useful {
			delete(options, name)
		}
	}
}

// ways holds the policies of callers, the default first.
var ways = []Way{
	{Name: "round_robin", Exact: true, bounds: true, grows: true, spills: true},
	{
		Name:   "etcd_weighted",
		Exact:  true,
		Weighs: true,
		bounds: true,
		grows:  true,
		spills: true,
	},
	{Name: "etcd_peak_ewma", bounds: true, grows: true, spills: true},
	{
		Name:   "least_request_experimental",
		config: `"choiceCount":3`,
		bounds: true,
		spills: true,
	},
	{Name: "pick_first", First: true},
	{Name: "pick_first", config: `"shuffleAddressList":true`, First: true},
	{
		Name:   "ring_hash_experimental",
		config: `"requestHashHeader":"etcd-affinity"`,
		Tied:   true,
		bounds: true,
	},
	{
		Name:   "ring_hash_experimental",
		config: `"requestHashHeader":"acme-user"`,
		bounds: true,
	},
}

// features holds fields that may surround a policy. On average one in oneIn
// configs has the field, in one of its forms.
var features = []struct {
	oneIn int
	fits  func(Way) bool
	forms []string
}{
	{3, func(w Way) bool { return w.bounds }, []string{
		`"maxConcurrentRequests":2`,
		`"maxConcurrentRequests":1`,
	}},
	{3, func(w Way) bool { return w.grows }, []string{
		`"slowStart":{"window":"2s"}`,
		`"slowStart":{"window":"4s","minPercent":20}`,
	}},
	{3, func(w Way) bool { return w.spills }, []string{
		`"preferZone":true`,
		`"preferZone":true,"zoneMinPercent":60`,
	}},
	{3, func(w Way) bool { return !w.spills }, []string{`"preferZone":true`}},
	{4, anyWay, []string{`"subset":2`, `"subset":3`}},
	{2, anyWay, []string{
		`"split":[{"match":{"version":"v2"},"weight":30},{"match":{"version":"v1"},"weight":70}]`,
		`"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":""},"weight":1},{"match":{"version":"v2"},"weight":0}]`,
		routes + `{"label":"version"}]`,
		routes + `{"lane":"v2","match":{"version":"v2"}},{"lane":"v1","match":{"version":"v1"},"strict":true}]`,
	}},
}

func anyWay(Way) bool {
	return true
}

const routes = `"route":[`

// outliers is a config of outlier detection around another policy. It ejects
// one instance at a time.
const outliers = `{"outlier_detection_experimental":{"interval":"1s","baseEjectionTime":"3s","maxEjectionPercent":10,` +
	`"failurePercentageEjection":{"threshold":50,"minimumHosts":2,"requestVolume":2},"childPolicy":[%s]}}`

// drawPolicy draws a service config, which drains an instance unless drained is
// "".
func drawPolicy(r *rand.Rand, drained string) string {
	way := pick(r, ways)

	var fields []string
	for _, f := range features {
		if r.IntN(f.oneIn) == 0 && f.fits(way) {
			fields = append(fields, pick(r, f.forms))
		}
	}

	text := strings.Join(fields, ",")
	if drained != "" && !strings.Contains(text, routes) {
		least := pick(r, []string{
			"", `"minHealthyPercent":60,`, `"minHealthyPercent":70,`,
		})
		fields = append(fields, least+fmt.Sprintf(`"drain":[%q]`, drained))
	}

	if r.IntN(3) > 0 {
		fields = append(fields,
			fmt.Sprintf(`"childPolicy":[{%q:{%s}}]`, way.Name, way.config))
	}

	policy := `{"etcd":{` + strings.Join(fields, ",") + `}}`
	if !way.First && r.IntN(4) == 0 {
		policy = fmt.Sprintf(outliers, policy)
	}

	return `{"loadBalancingConfig":[` + policy + `]}`
}

// Layers returns the configs of the policies in a service config, by name, and
// the picking policy. The picking policy is the innermost policy, or the
// default if the config has none. If it is invalid or unknown, way has no name.
func Layers(config string) (layers map[string]json.RawMessage, way Way) {
	type list []map[string]json.RawMessage // each map has one policy

	var top struct{ LoadBalancingConfig list }
	if json.Unmarshal([]byte(config), &top) != nil {
		return nil, Way{}
	}

	layers = map[string]json.RawMessage{}
	name := ""

	for next := top.LoadBalancingConfig; len(next) > 0; {
		var below struct{ ChildPolicy list }

		for name = range next[0] {
			layers[name] = next[0][name]
		}

		if json.Unmarshal(layers[name], &below) != nil {
			return nil, Way{}
		}

		next = below.ChildPolicy
	}

	if name == "" || name == "etcd" {
		return layers, ways[0]
	}

	for _, w := range ways {
		if w.Name == name &&
			(way.Name == "" || strings.Contains(string(layers[name]), w.config)) {
			way = w
		}
	}

	return layers, way
}

// policies holds service configs for callers and operators.
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

// badConfigs holds live configs that clients refuse.
var badConfigs = []string{
	``, `{`, `null`, `[]`,
	`{"loadBalancingConfig":[{"no_such_policy":{}}]}`,
	`{"loadBalancingConfig":[{"outlier_detection_experimental":{}}]}`,
	`{"loadBalancingConfig":[{"etcd":null}]}`,
	`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`,
	`{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":67108864}]}`,
	`{"loadBalancingConfig":[{"etcd":{"split":[]}}],"surplus":1}`,
}

// badEntries holds values of entries that no client may dial.
var badEntries = []string{
	``, `{`, `[]`, `null`,
	`unix:/x`, `dns:///x`, "10.9.0.1:80\n10.9.0.2:80",
	`{"Addr":""}`, `{"Addr":"10.9.0.1:99999"}`, `{"Addr":"unix:/x"}`,
	`{"name":"shop","endpoints":[]}`,
	`{"network":"unix","address":"/x"}`,
	strings.Repeat("x", 5000),
}

// neighbours holds keys that resemble the keys of services and belong to none.
var neighbours = []string{
	"acme/shop2/10.9.1.1:80",
	"acme/shop-admin/10.9.1.2:80",
	"acme/shopx",
	"acme/shop",
	"acme/sho/p",
}

// BadConfig reports whether clients refuse a live config.
func BadConfig(config string) bool {
	return slices.Contains(badConfigs, config)
}

// Drain returns the live config that drains an instance.
func Drain(instance string) string {
	return fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{"drain":[%q]}}]}`, instance)
}
