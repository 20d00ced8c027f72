package store

import (
	"slices"
	"testing"
)

func TestKeyRange_Intersect(t *testing.T) {
	for _, tc := range []struct {
		r, o, want KeyRange
		ok         bool
	}{
		{Everything, PrefixRange("a/"), PrefixRange("a/"), true},
		{PrefixRange("a/"), Everything, PrefixRange("a/"), true},
		{Everything, Everything, Everything, true},
		{PrefixRange("acme"), PrefixRange("acme/user/"), PrefixRange("acme/user/"), true},
		{PrefixRange("acme/user/"), PrefixRange("acme"), PrefixRange("acme/user/"), true},
		{PrefixRange("a/"), PrefixRange("b/"), KeyRange{}, false},
	} {
		got, ok := tc.r.intersect(tc.o)
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%v and %v: %v, %v; want %v, %v", tc.r, tc.o, got, ok, tc.want, tc.ok)
		}
	}
}

func TestKeyRange_String(t *testing.T) {
	for want, r := range map[string]KeyRange{"a/*": PrefixRange("a/"), "*": Everything, "a/b": KeyOnly("a/b"), "[a, c)": {"a", "c"}} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDisjoint(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ ranges, want []KeyRange }{
		{nil, nil},
		{[]KeyRange{{"b", "c"}, {"a", "b"}}, []KeyRange{{"a", "b"}, {"b", "c"}}},
		{[]KeyRange{{"a", "c"}, {"b", "d"}, KeyOnly("b")}, []KeyRange{{"a", "d"}}},
		{[]KeyRange{{"a", "d"}, {"b", "c"}}, []KeyRange{{"a", "d"}}},
		{[]KeyRange{{"_config/", "_config0"}, Everything}, []KeyRange{Everything}},
		{[]KeyRange{{"b", "\x00"}, {"a", "c"}, {"x", "y"}}, []KeyRange{{"a", "\x00"}}},
	} {
		if got := disjoint(tc.ranges); !slices.Equal(got, tc.want) {
			t.Errorf("%v: %v, want %v", tc.ranges, got, tc.want)
		}
	}
}
