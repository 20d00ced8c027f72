package healthcheck

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCore follows two groups, one of a and one of b and c. Clients ask for c.
func TestCore(t *testing.T) {
	const unknown = 0
	type step struct {
		at      time.Duration
		service string
		status  servingStatus
		problem string
		want    string // the reports
		wait    time.Duration
	}
	const second, ms = time.Second, time.Millisecond
	for name, steps := range map[string][]step{
		"what is not known is as healthy as the server": {
			{0, "", up, "", "0 up, 1 up", second},
			{9 * second, "", down, "", "0 down, 1 down", second},
			{10 * second, "a", up, "", "0 up", second},
			{11 * second, "b", up, "", "", second},
			{12 * second, "c", up, "", "1 up", second},
			{13 * second, "a", unknown, "", "0 down", second},
		},
		"one service takes its group out alone": {
			{0, "b", up, "", "0 up, 1 up", second},
			{9 * second, "c", down, "", "1 down", second},
		},
		"a change is reported at once, and the next a second after it": {
			{0, "a", down, "", "1 up", second},
			{5 * ms, "a", up, "", "0 up", second},
			{10 * ms, "a", down, "", "", 995 * ms},
			{20 * ms, "a", up, "", "", second},
			{30 * ms, "a", down, "", "", 975 * ms},
			{1004 * ms, "a", down, "", "", ms},
			{1005 * ms, "a", down, "", "0 down", second},
			{1006 * ms, "b", down, "", "1 down", second},
		},
		"a problem keeps the status, and is reported": {
			{0, "a", up, "", "0 up, 1 up", second},
			{9 * second, "a", 0, "fails", `0 up the health service's Check of "a" fails: what it said last counts`, second},
			{18 * second, "a", down, "", "0 down", second},
			{27 * second, "a", 0, "hangs", `0 down the health service's Check of "a" hangs: what it said last counts`, second},
			{28 * second, "a", 0, "hangs", "", second},
		},
		"H8: a name that clients ask for and nobody knows": {
			{0, "c", unknown, "", `0 up, 1 up the health service does not know "c", so all calls of clients with health_check fail: ` +
				`call healthServer.SetServingStatus("c", healthpb.HealthCheckResponse_SERVING)`, second},
			{9 * second, "c", down, "", "1 down", second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &core{[]Group{{Services: []string{"a"}}, {Services: []string{"b", "c"}, Checked: []string{"c"}}}, make(map[string]servingStatus), make(map[string]string)}
			start := time.Now()
			for i, s := range steps {
				c.on(s.service, s.status, s.problem)
				groups, wait := c.due(start.Add(s.at))
				var got []string
				for _, i := range groups {
					h := c.groups[i].told
					got = append(got, strings.TrimSpace(fmt.Sprint(i, " ", map[bool]string{true: "up", false: "down"}[h.OK], " ", h.Problem)))
				}
				if got := strings.Join(got, ", "); got != s.want || wait != s.wait {
					t.Errorf("step %d: %q and a pause of %v, want %q and %v", i, got, wait, s.want, s.wait)
				}
			}
		})
	}
}
