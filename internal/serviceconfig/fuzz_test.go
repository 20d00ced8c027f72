package serviceconfig

import (
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// generated is a config in the form that the plugin writes.
const generated = `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}],` +
	`"methodConfig":[{"name":[{"service":"helloworld.Greeter","method":"SayHello"}],"timeout":"1.500s"}]}`

// FuzzParseLive checks that gRPC accepts each config that ParseLive accepts,
// also if the config is merged over a generated config, and if the merged
// config is wrapped.
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
			// The error must fit in a line of a log.
			text := err.Error()
			if len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool {
				return !unicode.IsPrint(r)
			}) {
				t.Fatalf("the error is too long or not printable: %q", text)
			}

			return
		}

		written := c.JSON()
		again, err := parse(written, place{live: true})
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%s is written\n%s\nwhich is parsed as\n%+v, %v", text, written, again, err)
		}

		merged, err := Merge(unless(""), generated, written)
		if err != nil {
			t.Fatalf("Merge over the generated config rejects %s: %v", written, err)
		}

		wrapped, err := Wrap(unless(""), merged)
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

		if again, err := Wrap(unless(""), wrapped.JSON); err != nil ||
			again.JSON != wrapped.JSON ||
			again.Top != wrapped.Top {
			t.Fatalf("%+v is wrapped again as %+v, error %v, want no change", wrapped, again, err)
		}
	})
}
