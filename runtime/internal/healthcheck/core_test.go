package healthcheck

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCore follows two groups, one of a and one of b and c. Clients check c.
func TestCore(t *testing.T) {
	const unknown = 0
	type step struct {
		at      time.Duration
		service string
		status  servingStatus
		problem string
		want    string // the reports
	}
	const second, ms = time.Second, time.Millisecond
	for name, steps := range map[string][]step{
		"what is not known is as healthy as the server": {
			{0, "", up, "", "0 up, 1 up"},
			{9 * second, "", down, "", "0 down, 1 down"},
			{10 * second, "a", up, "", "0 up"},
			{11 * second, "b", up, "", ""},
			{12 * second, "c", up, "", "1 up"},
			{13 * second, "a", unknown, "", "0 down"},
		},
		"one service takes its group out alone": {
			{0, "b", up, "", "0 up, 1 up"},
			{9 * second, "c", down, "", "1 down"},
		},
		"a change is reported at once, and the next a second after it": {
			{0, "a", down, "", "1 up"},
			{5 * ms, "a", up, "", "0 up"},
			{10 * ms, "a", down, "", ""},
			{20 * ms, "a", up, "", ""},
			{30 * ms, "a", down, "", ""},
			{1004 * ms, "a", down, "", ""},
			{1005 * ms, "a", down, "", "0 down"},
			{1006 * ms, "b", down, "", "1 down"},
		},
		"a problem keeps the status, and is reported": {
			{0, "a", up, "", "0 up, 1 up"},
			{9 * second, "a", 0, "fails", `0 up the health service's Check of "a" fails: what it said last counts`},
			{18 * second, "a", down, "", "0 down"},
			{27 * second, "a", 0, "hangs", `0 down the health service's Check of "a" hangs: what it said last counts`},
			{28 * second, "a", 0, "hangs", ""},
		},
		"a name that clients ask for and nobody knows": {
			{0, "c", unknown, "", `0 up, 1 up the health service does not know "c", so all calls of clients with health_check fail: ` +
				`call healthServer.SetServingStatus("c", healthpb.HealthCheckResponse_SERVING)`},
			{9 * second, "c", down, "", "1 down"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &core{[]*followed{{Group: Group{Services: []string{"a"}}}, {Group: Group{Services: []string{"b", "c"}, Checked: []string{"c"}}}}, make(map[string]servingStatus), make(map[string]string)}
			start := time.Now()
			for i, s := range steps {
				c.answered(s.service, s.status, s.problem)
				groups := c.due(start.Add(s.at))
				var got []string
				for _, i := range groups {
					h := c.groups[i].reported
					got = append(got, strings.TrimSpace(fmt.Sprint(i, " ", map[bool]string{true: "up", false: "down"}[h.OK], " ", h.Problem)))
				}
				if got := strings.Join(got, ", "); got != s.want {
					t.Errorf("step %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}
