package liveconfig

import (
	"testing"
)

func TestChildPolicy(t *testing.T) {
	for text, want := range map[string]string{
		"round_robin":              `[{"round_robin":{}}]`,
		"weighted":                 `[{"etcd_weighted":{}}]`,
		`{"pick_first":{}}`:        `[{"pick_first":{}}]`,
		` [{"a":{}},{"b":{}}] `:    `[{"a":{}},{"b":{}}]`,
		"":                         "",
		"[]":                       "",
		`{}`:                       "",
		`{"a":{},"b":{}}`:          "",
		`{"pick_first":{}} excess`: "",
	} {
		got, err := ChildPolicy(text)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, policy := range shortPolicies {
		if err := Check(`{"loadBalancingConfig":[` + policy.json + `]}`); err != nil {
			t.Errorf("%s: %v", policy.name, err)
		}
	}
}
