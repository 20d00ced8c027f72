package main

import (
	"context"
	"fmt"
	"strings"
)

// badConfigs crash, hang or disable clients that take them as they are.
var badConfigs = []string{
	policy(`{"outlier_detection_experimental":{}}`),
	policy(`null`),
	policy(`{"etcd":{"childPolicy":null}}`),
	policy(`{"etcd":{"childPolicy":[null]}}`),
	policy(`{"outlier_detection_experimental":{"childPolicy":[{"round_robin":null}]}}`),
	policy(`{"outlier_detection_experimental":{"interval":"0s","childPolicy":[{"round_robin":{}}]}}`),
	policy(`{"ring_hash_experimental":{}}`),
	policy(`{"Ring_Hash_Experimental":{"minRingSize":8388608,"maxRingSize":8388608}}`),
	policy(`{"priority_experimental":{}}`),
	policy(`{"weighted_target_experimental":{"targets":{}}}`),
	policy(`{"xds_cluster_impl_experimental":{}}`),
	`{"loadBalancingPolicy":"outlier_detection_experimental"}`,
	`{"loadBalancingPolicy":"xds_cluster_impl_experimental"}`,
	`{"loadBalancingConfig":null}`,
	`{"methodConfig":null}`,
	`{"methodConfig":[null]}`,
	`{"retryThrottling":{"maxTokens":-1,"tokenRatio":-1}}`,
	`null`,
	`[]`,
	``,
	`{`,
	"{\"\n\u202e\":1}",
}

// fleet are 10,000 entries of different versions, zones and metadata, without a server.
func (a *attack) fleet(ctx context.Context) {
	a.putAll(ctx, numbered(10_000, func(i int) string {
		return entry(a.closing(i),
			"version", fmt.Sprintf(`"v%d"`, i%300), "zone", fmt.Sprintf(`"z%d"`, i%7), "m", fmt.Sprintf(`"%d"`, i))
	}))
}

// configWays are about the live config.
var configWays = []way{
	{name: "bad configs", row: "S1, S6, S16", what: "22 configs that crash or hang what takes them, one after the other", write: func(ctx context.Context, a *attack) {
		every(ctx, 10, func(n int) { a.putConfig(ctx, badConfigs[n%len(badConfigs)]) })
	}},
	{name: "deep configs", row: "S5", what: "250 KB of nesting, in 4 forms", write: func(ctx context.Context, a *attack) {
		deep := []string{
			policy(strings.Repeat(`{"outlier_detection_experimental":{"childPolicy":[`, 4800) + `{"round_robin":{}}` + strings.Repeat(`]}}`, 4800)),
			policy(strings.Repeat(`[`, 125_000) + strings.Repeat(`]`, 125_000)),
			policy(strings.Repeat(`{"etcd":{"childPolicy":[`, 9000) + `{"round_robin":{}}` + strings.Repeat(`]}}`, 9000)),
			strings.Repeat(`{"a":`, 50_000),
		}
		every(ctx, 4, func(n int) { a.putConfig(ctx, deep[n%len(deep)]) })
	}},
	{name: "busy detection", row: "S6", what: "outlier detection with the shortest interval that is allowed, over 600 servers", write: func(ctx context.Context, a *attack) {
		a.putAll(ctx, numbered(600, func(i int) string { return entry(a.serving(i)) }))
		a.putConfig(ctx, policy(`{"outlier_detection_experimental":{"interval":"0.1s","baseEjectionTime":"0.1s","maxEjectionTime":"0.1s",`+
			`"maxEjectionPercent":100,"successRateEjection":{"stdevFactor":1,"enforcementPercentage":100,"minimumHosts":1,"requestVolume":1},`+
			`"failurePercentageEjection":{"threshold":1,"enforcementPercentage":100,"minimumHosts":1,"requestVolume":1},`+
			`"childPolicy":[{"round_robin":{}}]}}`))
	}},
	{name: "flipping policies", row: "S8", what: "the policy changes 25 times a second", passing: true, write: func(ctx context.Context, a *attack) {
		policies := append(honestPolicies, `{"pick_first":{"shuffleAddressList":true}}`, `{"least_request_experimental":{"choiceCount":10}}`)
		every(ctx, 25, func(n int) { a.putConfig(ctx, policy(policies[n%len(policies)])) })
	}},
	{name: "large splits", row: "S7", what: "250 KB of split over 10,000 entries", write: func(ctx context.Context, a *attack) {
		a.fleet(ctx)
		var groups []string
		for i := range 4000 {
			groups = append(groups, fmt.Sprintf(`{"match":{"version":"v%d","m":"%d"},"weight":1}`, i%300, i))
		}
		a.putConfig(ctx, policy(`{"etcd":{"split":[`+strings.Join(groups, ",")+`],"childPolicy":[{"round_robin":{}}]}}`))
	}},
	{name: "allowed splits", row: "S7", what: "the largest split that is allowed over 10,000 entries, one of which changes 20 times a second", write: func(ctx context.Context, a *attack) {
		a.fleet(ctx)
		var groups []string
		for i := range 256 {
			groups = append(groups, fmt.Sprintf(`{"match":{"version":"v%d","zone":"z%d","a":"","b":"","c":"","d":"","e":"","f":""},"weight":1}`, i, i%7))
		}
		a.putConfig(ctx, policy(`{"etcd":{"split":[`+strings.Join(groups, ",")+`],"preferZone":true,"childPolicy":[{"round_robin":{}}]}}`))
		every(ctx, 20, func(n int) {
			a.put(ctx, fmt.Sprintf("%06d", n%10_000), entry(a.closing(n%10_000), "version", fmt.Sprintf(`"v%d"`, n)))
		})
	}},
	{name: "large drains", row: "S7", what: "225 KB of drain over 10,000 entries, one of which changes 20 times a second", write: func(ctx context.Context, a *attack) {
		a.fleet(ctx)
		var drained []string
		for i := range 10_000 {
			drained = append(drained, fmt.Sprintf(`"%s"`, a.closing(i+5000)))
		}
		a.putConfig(ctx, policy(`{"etcd":{"drain":[`+strings.Join(drained, ",")+`],"childPolicy":[{"round_robin":{}}]}}`))
		every(ctx, 20, func(n int) {
			a.put(ctx, fmt.Sprintf("%06d", n%10_000), entry(a.closing(n%10_000), "n", fmt.Sprint(n)))
		})
	}},
	{name: "wrong in a row", row: "S11", what: "50 configs a second, each wrong in its own way", write: func(ctx context.Context, a *attack) {
		every(ctx, 50, func(n int) { a.putConfig(ctx, fmt.Sprintf(`{"unknown%d":true}`, n)) })
	}},
	{name: "questionable", row: "S11", what: "a split and a drain of 7,000 names that nothing has, which changes 5 times a second", write: func(ctx context.Context, a *attack) {
		every(ctx, 5, func(n int) {
			var drained []string
			for i := range 7000 {
				drained = append(drained, fmt.Sprintf(`"nobody-%d-%d"`, n, i))
			}
			a.putConfig(ctx, policy(`{"etcd":{"split":[{"match":{"version":"none"},"weight":1}],"drain":[`+strings.Join(drained, ",")+
				`],"childPolicy":[{"round_robin":{}}]}}`))
		})
	}},
	{name: "large configs", row: "S11", what: "configs of 256 KB, 100 a second, good and bad in turn", write: func(ctx context.Context, a *attack) {
		padding := strings.Repeat(" ", 255<<10)
		every(ctx, 100, func(n int) {
			a.putConfig(ctx, policy(`{"round_robin":{}}`)[:43+n%2]+padding+strings.Repeat(" ", n%100))
		})
	}},
	{name: "configs over the limit", what: "configs of 1.4 MB as fast as etcd can", write: func(ctx context.Context, a *attack) {
		forever(ctx, func(n int) { a.putConfig(ctx, text(n, 1400<<10)) })
	}},
	{name: "retries", row: "S10", what: "5 attempts at any failure without a pause, and no limit on messages, at servers that fail", write: func(ctx context.Context, a *attack) {
		a.putAll(ctx, numbered(100, func(i int) string { return entry(a.traps.addr(a.traps.web, i)) }))
		every(ctx, 2, func(n int) {
			limit := ""
			if n%2 == 0 {
				limit = `,"maxResponseMessageBytes":67108864`
			}
			a.putConfig(ctx, `{"methodConfig":[{"name":[{}],"waitForReady":true,"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.000001s",`+
				`"maxBackoff":"0.000001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE","INTERNAL","UNKNOWN"]}`+limit+`}]}`)
		})
	}},
	{name: "largest rings", row: "S2", what: "the largest ring that is allowed, over 600 servers that come and go", write: func(ctx context.Context, a *attack) {
		a.putConfig(ctx, policy(`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity","minRingSize":8388608,"maxRingSize":8388608}}`))
		every(ctx, 10, func(n int) {
			a.putAll(ctx, numbered(600, func(i int) string {
				return entry(a.serving(i), "weight", fmt.Sprint(1+(n+i)%1000))
			}))
		})
	}},
}
