package serviceconfig

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// generated is a config in the form that the plugin writes.
const generated = `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}],` +
	`"methodConfig":[{"name":[{"service":"helloworld.Greeter","method":"SayHello"}],"timeout":"1.500s"}]}`

// FuzzParseLive checks that gRPC accepts each config that ParseLive accepts, alone, merged over a generated one and wrapped.
func FuzzParseLive(f *testing.F) {
	for _, tt := range accepted {
		f.Add(tt.text)
	}
	for _, tt := range refused {
		if len(tt.text) < 1<<14 {
			f.Add(tt.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseLive(text)
		if err != nil {
			checkError(t, err)
			return
		}
		written := c.JSON()
		again, err := Parse(written)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%s is written\n%s\nwhich is parsed as\n%+v, %v", text, written, again, err)
		}
		merged, err := Merge(generated, written)
		if err != nil {
			t.Fatalf("Merge over the generated config rejects %s: %v", written, err)
		}
		wrapped, err := Wrap(merged, unless(""))
		if err != nil {
			t.Fatalf("Wrap rejects the merged config %s: %v", merged, err)
		}
		for _, text := range []string{written, merged, wrapped.JSON} {
			if _, err := Parse(text); err != nil {
				t.Fatalf("Parse rejects %s, made from %s: %v", text, written, err)
			}
			if err := gRPCParse(text); err != nil {
				t.Fatalf("gRPC rejects %s, made from %s: %v", text, written, err)
			}
		}
		if again, err := Wrap(wrapped.JSON, unless("")); err != nil || again != wrapped {
			t.Fatalf("%+v is wrapped again as %+v, error %v, want no change", wrapped, again, err)
		}
	})
}

// FuzzParseEtcd checks that a parsed config of the policy "etcd" is written as text that parses to the same config.
func FuzzParseEtcd(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"drain":["a"],"preferZone":true}`, `{"childPolicy":[{"etcd":{}}]}`, `{"childPolicy":null}`,
		`{"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"","zone":"z"}}],"childPolicy":[{"custom":{"a":[1]}},{"pick_first":{}}]}`,
		`{"route":[{"lane":"red","match":{"version":"v2"},"strict":true},{"label":"lane"},{"label":"b"},{"lane":"c","match":{"a":""}}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEtcd(text)
		if err != nil {
			checkError(t, err)
			return
		}
		written, err := marshal(e)
		if err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		again, err := ParseEtcd(json.RawMessage(written))
		if err != nil || !reflect.DeepEqual(again, e) || len(e.ChildPolicy) == 0 {
			t.Fatalf("%s is written\n%s\nwhich is parsed as\n%+v, %v", text, written, again, err)
		}
	})
}

func checkError(t *testing.T, err error) { checkPrints(t, err.Error(), 2000) }

// checkPrints checks that text fits in a line of a log.
func checkPrints(t *testing.T, text string, limit int) {
	if len(text) > limit || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("the text is too long or not printable: %q", text)
	}
}
