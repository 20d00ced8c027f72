// Draw writes valid service configs, one a line, from a seed: go run ./xds/testdata/draw SEED COUNT
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func main() {
	var seed, count int
	if _, err := fmt.Sscan(strings.Join(os.Args[1:], " "), &seed, &count); err != nil {
		panic(err)
	}
	d := drawer{rand.New(rand.NewPCG(uint64(seed), 0))}
	for range count {
		fmt.Println(d.config())
	}
}

// drawer draws values of service configs, often the bounds that the tags of package serviceconfig set.
type drawer struct{ *rand.Rand }

// config draws a valid service config.
func (d drawer) config() string {
	config := make(map[string]any)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[serviceconfig.Config]()) {
		if name := nameOf(field); name != "loadBalancingPolicy" && d.IntN(4) > 0 {
			config[name] = d.valid(name, func() any { return d.value(field.Type, name, field.Tag) })
		}
	}
	return marshal(config)
}

func nameOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

func marshal(config map[string]any) string {
	text, _ := json.Marshal(config) // has only maps, lists, texts and numbers
	return string(text)
}

// valid draws until the checks allow a value as a field of a config.
func (d drawer) valid(field string, draw func() any) any {
	for {
		v := draw()
		if _, err := serviceconfig.Parse(marshal(map[string]any{field: v})); err == nil {
			return v
		}
	}
}

func pick[T any](d drawer, from ...T) T { return from[d.IntN(len(from))] }

// texts has texts for the fields of each name. One endpoint is in no lane, and the last one is not drained.
var texts = map[string][]string{
	"requestHashHeader": {"etcd-affinity", "x.y_z-1", strings.Repeat("h", 256)}, "laneHeader": {"x-lane", "te", "content-type"}, "serviceName": {"", "a"}, "drain": {"1", "127.0.0.3:1"},
	"lane": {"blue", "-_.:/", strings.Repeat("l", serviceconfig.MaxLane)}, "label": {"lane", "version", "\u0000/"},
}

// configs has the types of the policies' configs.
var configs = map[string]reflect.Type{
	"etcd": reflect.TypeFor[serviceconfig.Etcd](), "outlier_detection_experimental": reflect.TypeFor[serviceconfig.OutlierDetection](),
	"round_robin": reflect.TypeFor[serviceconfig.RoundRobin](), "pick_first": reflect.TypeFor[serviceconfig.PickFirst](),
	"least_request_experimental": reflect.TypeFor[serviceconfig.LeastRequest](), "ring_hash_experimental": reflect.TypeFor[serviceconfig.RingHash](),
	"etcd_weighted": reflect.TypeFor[serviceconfig.Weighted](), "etcd_peak_ewma": reflect.TypeFor[serviceconfig.PeakEwma](),
	"weighted_round_robin": reflect.TypeFor[serviceconfig.WeightedRoundRobin](),
}

// value draws a value for a field with a name and a tag.
func (d drawer) value(of reflect.Type, name string, tag reflect.StructTag) any {
	bound := func(key string, byDefault uint64) uint64 {
		if n, err := strconv.ParseUint(tag.Get(key), 10, 64); err == nil {
			return n
		}
		return byDefault
	}
	switch reflect.Zero(of).Interface().(type) {
	case serviceconfig.Duration:
		return pick(d, "0s", "0.000000001s", "0.0005s", "0.0999s", "0.1s", "1.000000001s", "30s", "2147483.647s", "2147484s", "2147483648s", "9223372035s")
	case serviceconfig.Code:
		return pick[any](d, "CANCELLED", "UNAVAILABLE", "ABORTED", "UNKNOWN", 13, 4, 8, 14)
	case serviceconfig.Policy:
		names := slices.Sorted(maps.Keys(configs))
		if name == "childPolicy" {
			_, around := tag.Lookup("required") // outlier detection is around "etcd"
			names = slices.DeleteFunc(names, func(name string) bool { return name == "outlier_detection_experimental" || name == "etcd" && !around })
		}
		policy := pick(d, names...)
		return d.valid("loadBalancingConfig", func() any { return []any{map[string]any{policy: d.object(configs[policy])}} }).([]any)[0]
	case serviceconfig.Method:
		return d.valid("methodConfig", func() any { return []any{d.object(of)} }).([]any)[0]
	case serviceconfig.MethodName:
		return pick(d, map[string]any{}, map[string]any{"service": "acme.Echo"}, map[string]any{"service": "acme.Echo", "method": "Say"}, map[string]any{"service": "\u0000?", "method": "*"})
	case map[string]string:
		return map[string]string{pick(d, "version", "zone", "lane", "addr"): pick(d, "v1", "v2", "z", "blue", "\u0000/\"=")}
	}
	switch of.Kind() {
	case reflect.Pointer:
		return d.value(of.Elem(), name, tag)
	case reflect.Bool:
		return d.IntN(2) == 0
	case reflect.Uint32, reflect.Uint64:
		least, most := bound("min", 0), bound("max", math.MaxUint32)
		return pick(d, least, least+1, least+d.Uint64N(most-least+1), most-1, most)
	case reflect.Float64:
		return pick(d, 1e-300, 0.1, 1, 2, float64(bound("max", math.MaxInt64)))
	case reflect.String:
		return pick(d, texts[name]...)
	case reflect.Slice:
		list := []any{}
		for range 1 + d.IntN(3) {
			list = append(list, d.value(of.Elem(), name, tag))
		}
		return list
	}
	return d.object(of)
}

// object draws the fields of a struct.
func (d drawer) object(of reflect.Type) map[string]any {
	object := make(map[string]any)
	for i := range of.NumField() {
		field := of.Field(i)
		if _, required := field.Tag.Lookup("required"); required || d.IntN(2) == 0 {
			object[nameOf(field)] = d.value(field.Type, nameOf(field), field.Tag)
		}
	}
	return object
}
