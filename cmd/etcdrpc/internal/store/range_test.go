package store

import (
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
