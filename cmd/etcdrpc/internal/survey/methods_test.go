package survey

import (
	"testing"
)

func TestIsMethod(t *testing.T) {
	for _, tc := range []struct {
		name string
		want bool
	}{
		{"acme.user.v1.Users/Get", true},
		{"/acme.user.v1.Users/Get", true},
		{"Users/Get", true},
		{"v1.Users/Get", true},
		{"Get", true},
		{"et", false},
		{"sers/Get", false},
		{"/Get", true},
		{"Users", false},
		{"get", false},
		{"Other/Get", false},
	} {
		if got := IsMethod("acme.user.v1.Users/Get", tc.name); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.name, got, tc.want)
		}
	}
}
