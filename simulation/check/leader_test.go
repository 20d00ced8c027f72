package check

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestWrites(t *testing.T) {
	type write struct {
		life  string
		token int64
		taken bool
	}
	for name, row := range map[string]struct {
		writes []write
		wrong  bool
	}{
		"one leader":                                  {[]write{{"first", 3, true}, {"first", 3, true}}, false},
		"the next":                                    {[]write{{"first", 3, true}, {"second", 5, true}}, false},
		"an earlier one is refused":                   {[]write{{"second", 5, true}, {"first", 3, false}}, false},
		"an earlier one is taken":                     {[]write{{"second", 5, true}, {"first", 3, true}}, true},
		"two with one token":                          {[]write{{"first", 3, true}, {"second", 3, true}}, true},
		"two with one token that's refused":           {[]write{{"first", 3, true}, {"second", 3, false}}, true},
		"a token that was refused is not the highest": {[]write{{"second", 9, false}, {"first", 3, true}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			j := New(began)
			for _, w := range row.writes {
				j.Write(at(1), w.life, w.token, w.taken)
			}
			if wrong := len(j.Problems) > 0; wrong != row.wrong {
				t.Errorf("problems: %v", j.Problems)
			}
			before := len(j.Problems)
			j.Restored()
			if j.Write(at(2), "third", 3, true); len(j.Problems) != before {
				t.Errorf("after a restore: %v", j.Problems[before:])
			}
		})
	}
}

func TestLeaderCalls(t *testing.T) {
	for name, row := range map[string]struct {
		call   Call
		leader string
		before func(*Judge)
		want   []Rule
	}{
		"the leader answers":                 {call(answeredBy("first")), "first", nil, nil},
		"somebody answers, and may lead":     {call(answeredBy("second")), "", nil, nil},
		"another answers":                    {call(answeredBy("second")), "first", nil, []Rule{ToLeader}},
		"an instance that never was answers": {call(answeredBy("fourth")), "first", nil, []Rule{NeverWas}},
		"there is no leader":                 {call(code(codes.DeadlineExceeded)), "", nil, nil},
		"the leader is not reached":          {call(code(codes.DeadlineExceeded)), "first", nil, []Rule{ToLeader}},
		"the leader refuses":                 {call(), "second", nil, []Rule{ToLeader}},
		"the call has no token":              {call(code(codes.FailedPrecondition)), "", nil, []Rule{ToLeader}},
		"it takes too long":                  {call(longest(0.01), func(c *Call) { c.End = at(12) }), "", nil, []Rule{Timeouts}},
		"it fails, and may wait":             {call(waits(5)), "", nil, []Rule{ToLeader}},
		"it fails after it has waited":       {call(waits(0.01)), "", nil, nil},
		"it fails as its connection breaks":  {call(waits(5)), "", func(j *Judge) { j.Link(at(9), "caller 0", "server 0", true, false) }, nil},
		"it fails as an instance ends":       {call(waits(5)), "", func(j *Judge) { j.Down(at(10), "second", true) }, nil},
		"the leader was killed meanwhile":    {call(), "first", func(j *Judge) { j.Down(at(10), "first", true) }, nil},
		"the leader was cut off":             {call(), "first", func(j *Judge) { j.Link(at(9), "caller 0", "server 0", true, false) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			j := judge()
			if row.before != nil {
				row.before(j)
			}
			j.LeaderCall(row.call, row.leader)
			var got []Rule
			for _, p := range j.Problems {
				got = append(got, p.Rule)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("problems: %v, want %v", j.Problems, row.want)
			}
		})
	}
}
