package xds

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// drawer draws values of service configs, often the bounds that the tags of
// package serviceconfig set.
type drawer struct{ *rand.Rand }

// config draws a valid service config.
func (d drawer) config() string {
	config := make(map[string]any)
	for field := range reflect.TypeFor[serviceconfig.Config]().Fields() {
		if name := nameOf(field); name != "loadBalancingPolicy" && d.IntN(4) > 0 {
			config[name] = d.valid(name, func() any { return d.value(field.Type, field) })
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

// valid draws values until package serviceconfig accepts one as this field of a
// config.
func (d drawer) valid(field string, draw func() any) any {
	for {
		v := draw()
		if _, err := serviceconfig.Parse(marshal(map[string]any{field: v})); err == nil {
			return v
		}
	}
}

func pick[T any](d drawer, from ...T) T {
	return from[d.IntN(len(from))]
}

// texts has the possible texts of the fields with each name. Whatever is drawn,
// one endpoint is in no lane, and the last endpoint is not drained.
var texts = map[string][]string{
	"requestHashHeader": {"etcd-affinity", "x.y_z-1", strings.Repeat("h", 256)},
	"laneHeader":        {"x-lane", "te", "content-type"},
	"serviceName":       {"", "a"},
	"instance":          {"1", "127.0.0.3:1"},
	"until":             {"", "2126-01-01T00:00:00Z"},
	"by":                {"", "a"},
	"at":                {"", "a"},
	"lane":              {"blue", "-_.:/", strings.Repeat("l", serviceconfig.MaxLane)},
	"label":             {"lane", "version", "\u0000/"},
}

// configs has the configs of the policies.
var configs = map[string]any{
	"etcd":                           serviceconfig.Etcd{},
	"outlier_detection_experimental": serviceconfig.OutlierDetection{},
	"round_robin":                    serviceconfig.RoundRobin{},
	"pick_first":                     serviceconfig.PickFirst{},
	"least_request_experimental":     serviceconfig.LeastRequest{},
	"ring_hash_experimental":         serviceconfig.RingHash{},
	"etcd_weighted":                  serviceconfig.Weighted{},
	"etcd_peak_ewma":                 serviceconfig.PeakEwma{},
}

// value draws a value of a type for a field.
func (d drawer) value(of reflect.Type, field reflect.StructField) any {
	least, _ := strconv.ParseUint(field.Tag.Get("min"), 10, 64) // 0 without a number
	most, _ := strconv.ParseUint(field.Tag.Get("max"), 10, 64)

	switch reflect.Zero(of).Interface().(type) {
	case serviceconfig.Duration:
		return pick(d, "0s", "0.000000001s", "0.0005s", "0.0999s", "0.1s", "1.000000001s", "30s",
			"2147483.647s", "2147484s", "2147483648s", "9223372035s")
	case serviceconfig.Code:
		return pick[any](d, "CANCELLED", "UNAVAILABLE", "ABORTED", "UNKNOWN", 13, 4, 8, 14)
	case serviceconfig.Policy:
		return d.policy(field)
	case serviceconfig.Method:
		return d.valid("methodConfig", func() any { return []any{d.object(of)} }).([]any)[0]

	case serviceconfig.MethodName:
		return pick(d, map[string]any{}, map[string]any{"service": "acme.Echo"},
			map[string]any{"service": "acme.Echo", "method": "Say"},
			map[string]any{"service": "\u0000?", "method": "*"})

	case map[string]string:
		return map[string]string{pick(d, "version", "zone", "lane", "addr"): pick(d, "v1", "v2",
			"z", "blue", "\u0000/\"=")}
	}

	switch of.Kind() {
	case reflect.Pointer:
		return d.value(of.Elem(), field)
	case reflect.Bool:
		return d.IntN(2) == 0
	case reflect.Uint32, reflect.Uint64:
		most = cmp.Or(most, math.MaxUint32)
		return pick(d, least, least+1, least+d.Uint64N(most-least+1), most-1, most)
	case reflect.Float64:
		return pick(d, 1e-300, 0.1, 1, 2, float64(cmp.Or(most, math.MaxInt64)))
	case reflect.String:
		return pick(d, texts[nameOf(field)]...)

	case reflect.Slice:
		list := []any{}
		for range 1 + d.IntN(3) {
			list = append(list, d.value(of.Elem(), field))
		}

		return list
	}

	return d.object(of)
}

// policy draws a policy that the list of policies in a field may have.
func (d drawer) policy(field reflect.StructField) any {
	names := slices.Sorted(maps.Keys(configs))

	if nameOf(field) == "childPolicy" {
		_, around := field.Tag.Lookup("required") // in outlier detection, which may contain "etcd"
		names = slices.DeleteFunc(names, func(name string) bool {
			return name == "outlier_detection_experimental" || name == "etcd" && !around
		})
	}

	name := pick(d, names...)

	return d.valid("loadBalancingConfig", func() any {
		return []any{map[string]any{name: d.object(reflect.TypeOf(configs[name]))}}
	}).([]any)[0]
}

// object draws the fields of a struct.
func (d drawer) object(of reflect.Type) map[string]any {
	object := make(map[string]any)
	for field := range of.Fields() {
		if _, required := field.Tag.Lookup("required"); required || d.IntN(2) == 0 {
			object[nameOf(field)] = d.value(field.Type, field)
		}
	}

	return object
}
