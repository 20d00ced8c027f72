package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// With six random policies, xDS clients reach the same instances as the runtime's clients.
func TestDifferential(t *testing.T) {
	w := newWorld(t, "")
	fleet := []struct{ name, labels string }{
		{"a", `"version":"v1","zone":"z1"`},
		{"b", `"version":"v1","zone":"z2"`},
		{"c", `"version":"v2","zone":"z1"`},
		{"d", `"version":"v2","zone":"z2","lane":"pr-1"`},
		{"e", `"version":"v3","zone":"z1","lane":"pr-1"`},
		{"f", `"version":"v1","zone":"z2","lane":"pr-2"`},
		{"g", `"version":"v3"`},
	}
	for _, i := range fleet {
		w.addEntry(i.name, i.labels)
	}
	zones := []string{"", "z1"}
	byXDS, byRuntime := map[string]caller{}, map[string]caller{}
	for _, zone := range zones {
		byXDS[zone], byRuntime[zone] = w.goClient(zone), w.native(zone)
		eventually(t, byXDS[zone], calls(5), "answered by some instance", func(o outcome) bool { return len(o.Errors) == 0 })
	}
	last := ""
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	// differ describes a difference between the instances that an xDS client and a runtime client reach, or returns "".
	differ := func() string {
		for _, zone := range zones {
			for _, lane := range []string{"", "pr-1", "pr-2"} {
				o := calls(25)
				if lane != "" {
					o = o.with("etcd-lane", lane)
				}
				reached := func(c caller) string {
					out := c.call(o)
					return fmt.Sprint(slices.Sorted(maps.Keys(out.By)), len(out.Errors) > 0)
				}
				if got, want := reached(byXDS[zone]), reached(byRuntime[zone]); got != want {
					return fmt.Sprintf("zone %q, lane %q: xDS reached %s, the runtime %s", zone, lane, got, want)
				}
			}
		}
		return ""
	}
	random := rand.New(rand.NewPCG(1, 7))
	for round := range 6 {
		config := fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{%s}}],"methodConfig":[{"name":[{"service":"acme.Echo","method":"New"}],"timeout":"%ds"}]}`,
			randomOptions(random, len(fleet)), 10+round) // the changed timeout makes the bridge send new routes
		w.change(config)
		kit.Eventually(t, kit.Soon, "xDS and the runtime reach the same instances with "+config, func() bool {
			last = differ()
			return last == ""
		})
	}
}

// randomOptions returns random options of the policy etcd, for as many instances, named a, b and so on.
func randomOptions(random *rand.Rand, instances int) string {
	parts := []string{`"childPolicy":[{"round_robin":{}}]`}
	maybe := func(percent int, of ...string) {
		if random.IntN(100) < percent {
			parts = append(parts, of[random.IntN(len(of))])
		}
	}
	var drained []string
	for i := range instances {
		if random.IntN(3) == 0 {
			drained = append(drained, strconv.Quote(string(rune('a'+i))))
		}
	}
	maybe(50, `"drain":[`+strings.Join(drained, ",")+`]`)
	maybe(50, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]`,
		`"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":0}]`,
		`"split":[{"match":{"version":"v9"},"weight":1}]`, `"split":[{"match":{"zone":""},"weight":1},{"match":{"zone":"z1"},"weight":2}]`)
	maybe(50, `"preferZone":true`)
	maybe(20, `"minHealthyPercent":50`)
	maybe(75, `"route":[{"label":"lane"}]`, `"route":[{"lane":"pr-1","match":{"version":"v3"},"strict":true},{"label":"lane"}]`,
		`"route":[{"lane":"pr-2","match":{"zone":"z2"}}]`, `"route":[{"label":"version"}]`,
		`"route":[{"lane":"pr-1","match":{"lane":"pr-1"},"strict":true},{"lane":"pr-2","match":{"lane":"pr-2"}}]`)
	return strings.Join(parts, ",")
}
