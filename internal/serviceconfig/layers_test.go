package serviceconfig

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		configs []string
		want    string
	}{
		{"no configs", nil, `{}`},
		{"field by field", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}]}]}`,
			`{"methodConfig":[]}`,
		}, `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[]}`},
		{"a policy by name replaces a policy by config", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"loadBalancingPolicy":"pick_first"}`,
		}, `{"loadBalancingPolicy":"pick_first"}`},
		{"a policy by config replaces a policy by name", []string{
			`{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingConfig":[{"round_robin":{}}]}`,
		}, `{"loadBalancingConfig":[{"round_robin":{}}]}`},
		{"within a layer, the policy by config counts", []string{
			`{"loadBalancingPolicy":"pick_first","loadBalancingConfig":[{"round_robin":{}}]}`,
		}, `{"loadBalancingConfig":[{"round_robin":{}}]}`},
		{"null fields are ignored", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"loadBalancingConfig":null,"loadBalancingPolicy":null}`,
		}, `{"loadBalancingConfig":[{"round_robin":{}}]}`},
		{"names in any case are accepted", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"LoadBalancingConfig":[{"pick_first":{}}]}`,
		}, `{"loadBalancingConfig":[{"pick_first":{}}]}`},
		{"an overlay keeps the policy", []string{
			`{"loadBalancingConfig":[{"absent":{}},{"a":{"x":1}}],"methodConfig":[]}`, `{"loadBalancingConfig":[{"etcd":{"drain":["x"]}}]}`,
		}, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{"x":1}}],"drain":["x"]}}],"methodConfig":[]}`},
		{"an overlay changes the fields that it names", []string{
			`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{}}],"preferZone":true,"subset":5}}]}`, `{"loadBalancingConfig":[{"etcd":{"preferZone":false,"zoneMinPercent":50}}]}`,
		}, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{}}],"preferZone":false,"subset":5,"zoneMinPercent":50}}]}`},
		{"overlays over a policy by name", []string{`{"loadBalancingPolicy":"pick_first"}`,
			`{"loadBalancingConfig":[{"etcd":{"subset":5}}]}`,
			`{"loadBalancingConfig":[{"etcd":{"drain":["x"]}}]}`},
			`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"pick_first":{}}],"drain":["x"],"subset":5}}]}`},
		{"an overlay over nothing", []string{`{"loadBalancingConfig":[{"etcd":{"subset":5}}]}`},
			`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"subset":5}}]}`},
		{"overlays below outlier detection", []string{
			`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd_weighted":{}}]}}]}`, `{"loadBalancingConfig":[{"etcd":{"subset":5}}]}`, `{"loadBalancingConfig":[{"etcd":{}}]}`,
		}, `{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"subset":5}}]}}]}`},
		{"with a childPolicy, the last config replaces all", []string{
			`{"loadBalancingConfig":[{"etcd":{"subset":5}}]}`, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{}}]}}]}`,
		}, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{}}]}}]}`},
	} {
		got, err := Merge(unless("absent"), tt.configs...)
		if err != nil || got != tt.want {
			t.Errorf("%s: Merge = %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}

	for _, bad := range []string{"null", "[]", "{", `"x"`, `{"methodConfig":[],"MethodConfig":[]}`,
		strings.Repeat("[", 100)} {
		if got, err := Merge(unless(""), "{}", bad); err == nil {
			t.Errorf("Merge({}, %s) = %s, want an error", bad, got)
		}
	}
}

var wrapped = []struct{ in, want string }{
	{``, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}]}}]}`},
	{`{"loadBalancingConfig":null}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}]}}]}`},
	{`{"loadBalancingPolicy":"pick_first"}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"pick_first":{}}]}}]}`},
	{`{"loadBalancingConfig":[{"a":{"x":1}},{"b":{}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{"x":1}}]}}]}`},
	{`{"loadBalancingConfig":[{"a":{}}],"loadBalancingPolicy":"pick_first"}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"a":{}}]}}]}`},
	{`{"loadBalancingConfig":[{"etcd":{"x":1}},{"b":{}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"x":1}}]}`},
	{`{"loadBalancingConfig":[{"etcd":null}]}`, `{"loadBalancingConfig":[{"etcd":{}}]}`},
	{`{"loadBalancingPolicy":"etcd","methodConfig":[]}`,
		`{"loadBalancingConfig":[{"etcd":{}}],"methodConfig":[]}`},
	{`{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"1s","childPolicy":[{"round_robin":{}}]}},{"b":{}}]}`,
		`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"childPolicy":[{"round_robin":{}}]}}],"interval":"1s"}}]}`},
	{`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"drain":["x"]}}]}}]}`,
		`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"drain":["x"]}}]}}]}`},
	{`{"loadBalancingConfig":[{"absent":{}},{"outlier_detection_experimental":{"childPolicy":[{"round_robin":{}}]}}]}`,
		`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"childPolicy":[{"round_robin":{}}]}}]}}]}`},
	{`{"loadBalancingConfig":[{"absent":{"childPolicy":[{"etcd":{}}]}}]}`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"absent":{"childPolicy":[{"etcd":{}}]}}]}}]}`},
}

// unless reports policies as registered, except one.
func unless(absent string) func(string) bool {
	return func(policy string) bool { return policy != absent }
}

// TestWrap_PutsEtcdOnTop checks that gRPC never sees the deprecated field. If
// that field names "etcd", gRPC uses pick_first.
func TestWrap_PutsEtcdOnTop(t *testing.T) {
	for _, tt := range wrapped {
		got, err := Wrap(unless("absent"), tt.in)
		if err != nil || got.JSON != tt.want {
			t.Errorf("Wrap(%s) = %s, %v, want %s", tt.in, got.JSON, err, tt.want)
		}

		var config struct {
			LoadBalancingPolicy any
			LoadBalancingConfig []map[string]json.RawMessage
		}

		err = json.Unmarshal([]byte(got.JSON), &config)
		if err != nil || config.LoadBalancingPolicy != nil ||
			len(config.LoadBalancingConfig) != 1 || config.LoadBalancingConfig[0][got.Top] == nil {
			t.Errorf("Wrap(%s) = %+v, want one policy %q, in loadBalancingConfig alone", tt.in,
				got, got.Top)
		}
	}

	for _, tt := range []struct{ in, want string }{
		{`{"loadBalancingConfig":[{"a":{}},{"etcd":{}}]}`,
			`loadBalancingConfig[1]: the policy "etcd" must be the first of the list, alone in its entry`},
		{`{"loadBalancingConfig":[{"etcd":{},"a":{}}]}`,
			`loadBalancingConfig[0]: the policy "etcd" must be the first of the list, alone in its entry`},
		{`{"loadBalancingConfig":[{"ETCD":{}}]}`,
			`loadBalancingConfig[0]: no policy is named "ETCD": want "etcd"`},
		{`{"loadBalancingConfig":7}`, `loadBalancingConfig: want a list of policies, not 7`},
		{`{"loadBalancingPolicy":7}`, `loadBalancingPolicy: want a string, not 7`},
		{`{"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"0s","childPolicy":[{"round_robin":{}}]}}]}`,
			`loadBalancingConfig[0].outlier_detection_experimental.interval: want at least 0.100s, not "0s"`},
		{`{"loadBalancingConfig":[{"etcd":7}]}`,
			`loadBalancingConfig[0].etcd: want an object, not 7`},
		{`null`, `the service config is null: want a JSON object`},
	} {
		got, err := Wrap(unless("absent"), tt.in)
		if err == nil || err.Error() != tt.want {
			t.Errorf("Wrap(%s) = %+v, %v\nwant %s", tt.in, got, err, tt.want)
		}
	}
}
