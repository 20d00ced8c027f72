package policyedit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// computeDrain computes a drain, and returns its notes.
func computeDrain(s *inventory.Service, request Request) ([]string, error) {
	request.Kind = Drain
	e := &Edit{Request: request, Service: s}
	err := e.compute()

	return e.Notes, err
}

// TestDrain checks the notes of a drain, and that it is refused if a group or a
// strict lane would have no instance.
func TestDrain(t *testing.T) {
	const child = `"childPolicy":[{"round_robin":{}}]`
	const canary = `{"loadBalancingConfig":[{"etcd":{` + child +
		`,"split":[{"match":{"version":"v1"},"weight":99},{"match":{"version":"v2"},"weight":1}]}}]}`
	const unused = `{"loadBalancingConfig":[{"etcd":{` + child +
		`,"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":0}]}}]}`
	const lanes = `{"loadBalancingConfig":[{"etcd":{` + child +
		`,"route":[{"lane":"two","match":{"version":"v2"},"strict":true},{"label":"lane"}]}}]}`
	const zones = `{"loadBalancingConfig":[{"etcd":{` + child + `,"preferZone":true}}]}`

	instances := []string{
		`{"Addr":"10.0.0.1:1","Metadata":{"version":"v1","zone":"x"}}`,
		`{"Addr":"10.0.0.2:1","Metadata":{"version":"v1","zone":"y"}}`,
		`{"Addr":"10.0.0.3:1","Metadata":{"version":"v2","zone":"y"}}`,
		`{"Addr":"10.0.0.4:1","Metadata":{"lane":"pr","zone":"y"}}`,
	}
	for _, tc := range []struct {
		name, config, drain string
		refused             string
		notes               []string
	}{
		{"one instance of a group", canary, "a", "", []string{"2 of 4 instances get calls then."}},
		{"a whole group", canary, "a b",
			`the group version="v1" of the split matches only endpoints that are drained`,
			[]string{"1 of 4 instances get calls then."}},
		{"the canary", canary, "c", `the group version="v2" of the split matches`, []string{
			"2 of 4 instances get calls then.", `the group version="v2" of the split matches`}},
		{"a group without calls", unused, "c", "", []string{"2 of 4 instances get calls then."}},
		{"a lane", lanes, "d", "", []string{"2 of 4 instances get calls then."}},
		{"a strict lane", lanes, "c", `no instance of the strict lane "two" would be left`,
			[]string{"2 of 4 instances get calls then."}},
		{"a zone", zones, "a", "", []string{"3 of 4 instances get calls then."}},
		{"some of a zone", zones, "b c", "", []string{"2 of 4 instances get calls then."}},
		{"no live config", "", "a", "", []string{"2 of 4 instances get calls then, unless "}},
		{"a lane of the proto file", "", "d", `no instance of the strict lane "pr" would be left`,
			[]string{"3 of 4 instances get calls then"}},
		{"an instance that is drained already", zones[:len(zones)-4] + `,"drain":["a"]}}]}`, "a",
			"", nil},
	} {
		for _, force := range []bool{false, true} {
			s := calledService(tc.config, instances...)
			notes, err := computeDrain(s,
				Request{Names: strings.Fields(tc.drain), Force: force})

			if tc.refused != "" && !force {
				got := fmt.Sprint(err)
				if !strings.Contains(got, tc.refused) ||
					!strings.Contains(got, "register another instance first") {
					t.Errorf("%s: error %v, want %q", tc.name, err, tc.refused)
				}

				continue
			}

			for _, want := range tc.notes {
				if !slices.ContainsFunc(notes, func(note string) bool {
					return strings.Contains(note, want)
				}) {
					t.Errorf("%s, force %v: notes %q, want %q", tc.name, force, notes, want)
				}
			}

			if err != nil || (len(notes) == 0) != (tc.notes == nil) {
				t.Errorf("%s, force %v: notes %q, error %v; want notes %q", tc.name, force, notes,
					err, tc.notes)
			}
		}
	}
}

// TestDrain_ManyNames checks that the work of a drain is linear in the number
// of names.
func TestDrain_ManyNames(t *testing.T) {
	const config = `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"preferZone":true,"split":[{"match":{"version":""},"weight":1}]}}]}`

	values := []string{"10.1.0.1:1"}
	var names []string

	const n = 500
	for i := range n {
		addr := fmt.Sprintf("10.0.%d.%d:1", i>>8, i&0xff)
		values = append(values, fmt.Sprintf(`{"Addr":%q,"Metadata":{"zone":"z%d"}}`, addr, i))
		names = append(names, addr)
	}

	s := calledService(config, values...)
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := computeDrain(s, Request{Names: names}); err != nil {
			t.Error(err)
		}
	})
	if allocs > 100*n {
		t.Errorf("a drain of %d instances makes %v allocations, want at most %d", n, allocs, 100*n)
	}
}

// TestEmptied checks that an edit is refused only for the strict lanes that it
// empties.
func TestEmptied(t *testing.T) {
	const routes = `"route":[{"lane":"gone","match":{"version":"v9"},"strict":true},{"lane":"lax","match":{"version":"v1"}},{"label":"lane","strict":true}]`
	config := func(drain string) string {
		return `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":[` +
			drain + `],` + routes + `}}]}`
	}

	instances := []string{
		`{"Addr":"10.0.0.1:1","Metadata":{"lane":"x"}}`,
		`{"Addr":"10.0.0.2:1","Metadata":{"lane":"x"}}`,
		`{"Addr":"10.0.0.3:1","Metadata":{"lane":"y"}}`,
		`{"Addr":"10.0.0.4:1","Metadata":{"version":"v1"}}`,
		`{"Addr":"10.0.0.5:1"}`,
	}
	for _, tt := range []struct{ old, new, want string }{
		{"", config(`"a"`), "gone"},
		{config(`"a"`), config(`"a"`), ""},
		{config(`"a"`), config(`"a","b","d"`), "x"},
		{config(`"a","b"`), config(`"a","b","c"`), "y"},
		{config(`"a","b"`), "", ""},
	} {
		e := &Edit{
			Request: Request{Kind: Put, Config: tt.new},
			Service: calledService(tt.old, instances...),
		}

		err := e.compute()
		got := fmt.Sprint(err)
		if strings.Contains(got, "would be left") != (tt.want != "") ||
			!strings.Contains(got, tt.want) {
			t.Errorf("%s after %s leaves %q empty, want %q: %v", tt.new, tt.old, got, tt.want, err)
		}
	}
}

// calledService returns a service with instances a, b, c and so on with the
// given values, and a live config unless it is "".
func calledService(config string, values ...string) *inventory.Service {
	s := &inventory.Service{Key: "acme/user"}
	for n, value := range values {
		s.Add(inventory.Entry{
			Key:            "acme/user/" + string(rune('a'+n)),
			Value:          []byte(value),
			CreateRevision: int64(n + 1),
			ModRevision:    int64(n + 1),
		})
	}

	if config != "" {
		s.Config = &inventory.Entry{Key: inventory.ConfigPrefix + s.Key, Value: []byte(config)}
	}

	return s
}

// TestPut_Leased checks that a put of the same policy is written if the old one
// is on a lease, to remove the lease.
func TestPut_Leased(t *testing.T) {
	const config = `{"methodConfig":[]}`
	for lease, want := range map[int64]bool{0: false, 7: true} {
		e := &Edit{
			Request: Request{Kind: Put, Config: config},
			Service: calledService(config, "10.0.0.1:1"),
		}

		e.Service.Config.Lease = lease

		if err := e.compute(); err != nil || e.Changes() != want {
			t.Errorf("an equal config on lease %d: Changes() = %v, error %v, want %v", lease,
				e.Changes(), err, want)
		}
	}
}
