package serviceconfig

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// FuzzParseLive reads live configs. gRPC takes what is accepted, alone and laid over a generated one.
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
		if err != nil || !reflect.DeepEqual(again, c) || again.JSON() != written {
			t.Fatalf("%s is written\n%s\nwhich reads as\n%+v, %v", text, written, again, err)
		}
		if err := gRPCParse(written); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		checkLayers(t, written)
	})
}

// generated is a config as the plugin writes it.
const generated = `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}],` +
	`"methodConfig":[{"name":[{"service":"helloworld.Greeter","method":"SayHello"}],"timeout":"1.500s"}]}`

// checkLayers merges and wraps a config that was accepted, as a client does before gRPC has it.
func checkLayers(t *testing.T, live string) {
	merged, err := Merge(generated, live)
	if err != nil {
		t.Fatalf("%s: %v", live, err)
	}
	wrapped, err := Wrap(merged, unless(""))
	if err != nil {
		t.Fatalf("%s: %v", merged, err)
	}
	for _, text := range []string{merged, wrapped.JSON} {
		if _, err := Parse(text); err != nil {
			t.Fatalf("%s is laid over the generated config, %s: %v", live, text, err)
		}
		if err := gRPCParse(text); err != nil {
			t.Fatalf("%s is laid over the generated config, %s: %v", live, text, err)
		}
	}
	if again, err := Wrap(wrapped.JSON, unless("")); err != nil || again != wrapped {
		t.Fatalf("%+v is wrapped again as %+v, %v", wrapped, again, err)
	}
}

// FuzzParseEtcd reads the config of the policy "etcd" as gRPC hands it over.
func FuzzParseEtcd(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"drain":[]}`, `{"drain":["a"],"preferZone":true}`,
		`{"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"","zone":"z"}}],"childPolicy":[{"custom":{"a":[1]}},{"pick_first":{}}]}`,
		`{"childPolicy":[{"etcd":{}}]}`, `{"childPolicy":null}`,
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
		again, err := ParseEtcd(written)
		if err != nil || !reflect.DeepEqual(compacted(again), compacted(e)) {
			t.Fatalf("%s is written\n%s\nwhich reads as\n%+v, %v", text, written, again, err)
		}
		if len(e.ChildPolicy) == 0 {
			t.Fatalf("%s has no policy below", text)
		}
		m := NewMatcher(e.Split)
		for i, s := range e.Split {
			if got := m.Match(func(name string) string { return s.Match[name] }); got < 0 || got > i {
				t.Fatalf("%s: an endpoint made for split %d is in %d", text, i, got)
			}
		}
	})
}

// compacted is e without the white space in configs that are kept as they are.
func compacted(e *Etcd) any {
	var v any
	if raw, err := marshal(e); err != nil || json.Unmarshal(raw, &v) != nil {
		return err
	}
	return v
}

// checkError keeps errors fit for a line of a log.
func checkError(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("the error is long, or does not print: %q", err)
	}
}

// FuzzLanes places endpoints, a line of values each, by the routes of a live config.
func FuzzLanes(f *testing.F) {
	for _, routes := range []string{
		`[{"label":"lane"}]`, `[{"lane":"red","match":{"version":"v2"},"strict":true},{"label":"lane"}]`, `[{"label":"a"},{"label":"b"},{"lane":"c","match":{"a":""}}]`,
	} {
		f.Add(routes, "lane=red version=v2\nlane=\x1b[2J\n\na=1 b=2")
	}
	f.Fuzz(func(t *testing.T, routes, lines string) {
		c, err := ParseLive(`{"loadBalancingConfig":[{"etcd":{"route":` + routes + `}}]}`)
		if err != nil {
			return
		}
		config, ok := c.LoadBalancing[0].Config.(*Etcd)
		if !ok || config.Route == nil {
			return
		}
		endpoints := strings.Split(lines, "\n")
		p := placeOf(config.Route, endpoints...)
		if !slices.IsSorted(p.Made) || len(p.Made) > MaxRoutes+MaxLabelLanes {
			t.Fatalf("%d lanes are made: %q", len(p.Made), p.Made)
		}
		for i, lanes := range p.Of {
			for _, lane := range lanes {
				if _, made := slices.BinarySearch(p.Made, lane); !made || !ValidLane(lane) {
					t.Fatalf("%q is in %q", endpoints[i], lane)
				}
			}
			if len(lanes) > MaxLanesOf {
				t.Fatalf("%q is in %q", endpoints[i], lanes)
			}
		}
		for _, problem := range p.Problems {
			if len(problem) > 1000 || strings.ContainsFunc(problem, func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Fatalf("a problem does not print: %q", problem)
			}
		}
	})
}
