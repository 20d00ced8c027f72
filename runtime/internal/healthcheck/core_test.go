package healthcheck

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// text returns the report of a group's health.
func (h Health) text(group any) string {
	state := map[bool]string{true: "up", false: "down"}[h.OK]
	return strings.TrimSpace(fmt.Sprint(group, " ", state, " ", h.Problem))
}

// TestCore follows two groups: group 0 of service a, and group 1 of services b
// and c. Clients check c.
func TestCore(t *testing.T) {
	const unknown = 0
	type step struct {
		at      time.Duration
		service string
		status  servingStatus
		problem string
		want    string // the reports of this step
	}

	const second, ms = time.Second, time.Millisecond
	for name, steps := range map[string][]step{
		"an unknown service has the server's health": {
			{0, "", up, "", "0 up, 1 up"},
			{9 * second, "", down, "", "0 down, 1 down"},
			{10 * second, "a", up, "", "0 up"},
			{11 * second, "b", up, "", ""},
			{12 * second, "c", up, "", "1 up"},
			{13 * second, "a", unknown, "", "0 down"},
		},
		"one unhealthy service makes its group unhealthy": {
			{0, "b", up, "", "0 up, 1 up"},
			{9 * second, "c", down, "", "1 down"},
		},
		"a change is reported at once, and the next time that the group is unhealthy, a second later": {
			{0, "a", down, "", "1 up"},
			{5 * ms, "a", up, "", "0 up"},
			{10 * ms, "a", down, "", ""},
			{20 * ms, "a", up, "", ""},
			{30 * ms, "a", down, "", ""},
			{1004 * ms, "a", down, "", ""},
			{1005 * ms, "a", down, "", "0 down"},
			{1006 * ms, "b", down, "", "1 down"},
			{1007 * ms, "a", up, "", "0 up"},
		},
		"a problem keeps the status, and is reported": {
			{0, "a", up, "", "0 up, 1 up"},
			{9 * second, "a", 0, "fails",
				`0 up the health service's Check of "a" fails: its last result counts`},
			{18 * second, "a", down, "", "0 down"},
			{27 * second, "a", 0, "hangs",
				`0 down the health service's Check of "a" hangs: its last result counts`},
			{28 * second, "a", 0, "hangs", ""},
		},
		"a name that clients check and the health service does not know": {
			{0, "c", unknown, "", `0 up, 1 up the health service does not know "c", so all calls of clients with health_check fail: ` +
				`call healthServer.SetServingStatus("c", healthpb.HealthCheckResponse_SERVING)`},
			{9 * second, "c", down, "", "1 down"},
		},
	} {
		c := newCore([]Group{
			{Services: []string{"a"}},
			{Services: []string{"b", "c"}, Checked: []string{"c"}},
		})

		start := time.Now()
		for i, s := range steps {
			c.onCheck(s.service, s.status, s.problem)

			var got []string
			for _, i := range c.due(start.Add(s.at)) {
				got = append(got, c.groups[i].reported.text(i))
			}

			if got := strings.Join(got, ", "); got != s.want {
				t.Errorf("%s: step %d, Check of %q: reports %q, want %q",
					name, i, s.service, got, s.want)
			}
		}
	}
}
