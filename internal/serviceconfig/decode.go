package serviceconfig

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// Fault is one error in a config, and its place, such as
// "methodConfig[2].timeout".
type Fault struct {
	Path    []string // names of fields, and indices and keys in brackets
	Text    string
	Missing bool // the field is required and absent

	// Want and Got describe the allowed values and the present value. Both are
	// empty if Text alone explains the fault.
	Want, Got string
}

func (f *Fault) Error() string {
	path := ""
	for i, step := range f.Path {
		if i > 0 && step[0] != '[' {
			path += "."
		}

		path += step
	}

	if path == "" {
		return f.Text
	}

	return path + ": " + f.Text
}

// Faults holds all faults of a config. The error has the text of the first
// fault.
type Faults []*Fault

func (f *Faults) Error() string {
	return (*f)[0].Error()
}

// maxFaults bounds the faults of a config. After that many faults, no further
// elements of lists are decoded.
const maxFaults = 100

// place is a place in a config that is being decoded.
//
// Fields of structs are decoded by their JSON names, which must be spelled
// exactly. A field that no struct has is a fault, and so is null. These tags
// restrict the values of a field:
//
//	required  the field must be present
//	min, max  bounds of a whole number or a duration; max also bounds fractions and the length of lists
//	positive  a fraction or a duration must be more than 0
//	of        noun for the elements of a list, in errors; the list must not be empty, unless min is 0
//	header    the text is the name of request metadata
//
// A type with a method check or decode checks or decodes itself.
type place struct {
	path   []string
	parent string // the policy around this place, or top
	faults *Faults
	live   bool // the limits of live configs apply

	// options without effect are faults, because somebody has written the
	// config as it is; false for a config that may be merged
	written bool
}

// checker is a struct that checks itself once its fields are decoded. Fields
// with faults are zero then.
type checker interface{ check(p place) }

// decoder is a type that decodes itself.
type decoder interface{ decode(p place, v any) }

// absent is the value of a missing field.
type absent struct{}

// decode decodes text, a JSON object, into the struct that dst points at. An
// error of type *Faults holds all faults.
func decode(text string, dst any, p place) error {
	o, err := parseObject(text)
	if err != nil {
		return err
	}

	p.faults = new(Faults)
	p.decode(o, reflect.ValueOf(dst).Elem(), "")

	return p.err()
}

func (p place) err() error {
	if len(*p.faults) == 0 {
		return nil
	}

	return p.faults
}

// in returns a place below p.
func (p place) in(steps ...string) place {
	p.path = append(slices.Clip(p.path), steps...)
	return p
}

func index(i int) string {
	return "[" + strconv.Itoa(i) + "]"
}

// fault adds a fault at p.
func (p place) fault(format string, args ...any) {
	p.add(Fault{Text: fmt.Sprintf(format, args...)})
}

// wants adds the fault that v is not allowed at p. want describes the allowed
// values.
func (p place) wants(want string, v any) {
	if v == (absent{}) {
		p.add(Fault{Text: "is missing", Missing: true, Want: want})
		return
	}

	got := describe(v)
	p.add(Fault{Text: fmt.Sprintf("want %s, not %s", want, got), Want: want, Got: got})
}

// missing adds the fault that the field at p is absent.
func (p place) missing(text string) {
	p.add(Fault{Text: "is missing: " + text, Missing: true})
}

// add adds a fault at p, unless p has a fault already.
func (p place) add(f Fault) {
	same := func(other *Fault) bool { return slices.Equal(other.Path, p.path) }
	if !slices.ContainsFunc(*p.faults, same) {
		f.Path = p.path
		*p.faults = append(*p.faults, &f)
	}
}

// describe returns a short description of a value on one line, for an error.
func describe(v any) string {
	text, err := marshal(v)
	if err != nil {
		return err.Error()
	}

	return printable.Short(string(text), 60)
}

// parseObject parses a JSON object. It checks the depth first, because the
// parser recurses.
func parseObject(text string) (object, error) {
	switch {
	case text == "":
		return nil, errors.New("the service config is empty: want a JSON object")
	case rawjson.Depth([]byte(text), MaxDepth) > MaxDepth:
		return nil, fmt.Errorf(
			"the service config nests objects and arrays deeper than %d", MaxDepth)
	case !utf8.ValidString(text):
		return nil, errors.New("the service config is not valid UTF-8")
	}

	var v any

	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()

	// the decoder ignores text after the value
	err := json.Unmarshal([]byte(text), new(json.RawMessage))
	err = cmp.Or(err, decoder.Decode(&v))
	if err != nil {
		return nil, fmt.Errorf("the service config is not a JSON object: %w", err)
	}

	o, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("the service config is %s: want a JSON object",
			describe(v))
	}

	return o, nil
}

// decode stores v, a value that encoding/json has parsed. tag is the tag of the
// field.
func (p place) decode(v any, at reflect.Value, tag reflect.StructTag) {
	switch to := at.Addr().Interface().(type) {
	case decoder:
		to.decode(p, v)
	case *bool:
		store(p, to, v, "true or false")

	case *string:
		if store(p, to, v, "a string") && tag.Get("header") != "" {
			*to = p.header(*to)
		}

	case *uint32:
		*to = uint32(p.whole(v, tag))
	case *uint64:
		*to = p.whole(v, tag)
	case *float64:
		*to = p.float(v, tag)
	case *Duration:
		*to = p.duration(v, tag)
	case *map[string]string:
		*to = p.match(v)

	default:
		switch at.Kind() {
		case reflect.Pointer:
			at.Set(reflect.New(at.Type().Elem()))
			p.decode(v, at.Elem(), tag)
		case reflect.Slice:
			p.list(v, at, tag)
		default:
			p.object(v, at)
		}
	}
}

// store stores v, which must be a T. want describes a T.
func store[T any](p place, to *T, v any, want string) bool {
	x, ok := v.(T)
	if !ok {
		p.wants(want, v)
	}

	*to = x

	return ok
}

func (p place) object(v any, to reflect.Value) {
	var o object
	if !store(p, &o, v, "an object") {
		return
	}

	var known []string
	for i := range to.NumField() {
		known = append(known, jsonName(to.Type().Field(i)))
	}

	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(known, name) {
			p.fault("unknown field %.80q: want %s", name,
				cmp.Or(strings.Join(slices.Sorted(slices.Values(known)), ", "), "none"))
			break
		}
	}

	for i, name := range known {
		v, present := o[name]
		tag := to.Type().Field(i).Tag
		switch _, required := tag.Lookup("required"); {
		case present:
			p.in(name).decode(v, to.Field(i), tag)
		case required:
			p.in(name).decode(absent{}, to.Field(i), tag)
		}
	}

	if c, ok := to.Addr().Interface().(checker); ok {
		c.check(p)
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func (p place) list(v any, to reflect.Value, tag reflect.StructTag) {
	var list []any
	if !store(p, &list, v, "a list of "+tag.Get("of")) {
		return
	}

	if len(list) == 0 && tag.Get("min") != "0" {
		p.fault("the list is empty: name %s, or leave the field out", tag.Get("of"))
	}

	if limit := int(bound(tag, "max", math.MaxInt)); len(list) > limit {
		p.in(index(limit)).fault("is one too many: want at most %d %s", limit,
			tag.Get("of"))
		list = list[:limit]
	}

	to.Set(reflect.MakeSlice(to.Type(), len(list), len(list)))

	for i, v := range list {
		if len(*p.faults) >= maxFaults {
			return
		}

		p.in(index(i)).decode(v, to.Index(i), "")
	}
}

// header returns the name of request metadata in lower case, as gRPC sends it.
func (p place) header(text string) string {
	header := strings.ToLower(text)
	if !ValidHeader(header) {
		p.wants(WantHeader, text)
	}

	return header
}

// match decodes a match, which maps names to the values that endpoints must
// have.
func (p place) match(v any) map[string]string {
	var o object
	switch store(p, &o, v, "an object"); {
	case len(o) == 0:
		p.fault("is empty: name what the endpoints of the group have in common")
		return nil
	case len(o) > maxMatch:
		p.fault("has one too many: want at most %d names", maxMatch)
		return nil
	}

	match := make(map[string]string, len(o))
	for _, name := range slices.Sorted(maps.Keys(o)) {
		var value string
		store(p.in(fmt.Sprintf("[%.40q]", name)), &value, o[name], "a string")
		match[name] = value
	}

	return match
}

// whole decodes a whole number, which gRPC wants without an exponent.
func (p place) whole(v any, tag reflect.StructTag) uint64 {
	text, _ := v.(json.Number)
	n, err := strconv.ParseUint(text.String(), 10, 64)
	least := bound(tag, "min", 0)

	most := bound(tag, "max", math.MaxUint32)
	if err != nil || n < least || n > most {
		p.wants(fmt.Sprintf("a whole number from %d to %d", least, most), v)
		return 0
	}

	return n
}

// bound returns the whole number in a tag, or a default if there is none.
func bound(tag reflect.StructTag, key string, byDefault uint64) uint64 {
	n, err := strconv.ParseUint(tag.Get(key), 10, 64)
	if err != nil {
		return byDefault
	}

	return n
}

// float decodes a fraction, which is never negative.
func (p place) float(v any, tag reflect.StructTag) float64 {
	text, _ := v.(json.Number)
	f, err := strconv.ParseFloat(text.String(), 64)
	want := "a number, 0 or more"
	ok := err == nil && f >= 0

	if tag.Get("positive") != "" {
		want = "a number, more than 0"
		ok = ok && f > 0
	}

	if most, bounded := tag.Lookup("max"); bounded {
		want = want + " and at most " + most
		ok = ok && f <= float64(bound(tag, "max", 0))
	}

	if !ok {
		p.wants(want, v)
		return 0
	}

	return f
}

// Duration is a duration whose JSON is protobuf's: "1.500s".
type Duration time.Duration

// maxDuration is the longest accepted duration. time.Duration holds little
// more.
const maxDuration = Duration((math.MaxInt64/int64(time.Second) - 1) * int64(time.Second))

func (d Duration) String() string {
	seconds := int64(d) / int64(time.Second)
	nanos := int64(d) % int64(time.Second)

	text := fmt.Sprintf("%d.%09d", seconds, nanos)
	for _, zeros := range []string{"000", "000", ".000"} {
		text = strings.TrimSuffix(text, zeros)
	}

	return text + "s"
}

// MarshalJSON implements [json.Marshaler]. Durations are never negative.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(`"` + d.String() + `"`), nil
}

// duration decodes a duration, which is never negative.
func (p place) duration(v any, tag reflect.StructTag) Duration {
	text, ok := v.(string)
	if !ok {
		p.wants(`a duration such as "1.5s"`, v)
		return 0
	}

	digits, negative := strings.CutPrefix(text, "-")
	d, ok := parseSeconds(digits)
	least, _ := parseSeconds(tag.Get("min"))

	most, bounded := parseSeconds(tag.Get("max"))
	switch {
	case !ok:
		p.wants(`seconds such as "1.5s", at most `+maxDuration.String(), v)
	case tag.Get("positive") != "" && (negative || d == 0):
		p.wants("more than 0", v)
	case negative || d < least:
		p.wants("at least "+least.String(), v)
	case bounded && d > most:
		p.wants("at most "+most.String(), v)
	default:
		return d
	}

	return 0
}

var seconds = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]{1,9})?s$`)

// parseSeconds parses seconds with at most nine decimals, up to maxDuration.
func parseSeconds(text string) (d Duration, ok bool) {
	parsed, err := time.ParseDuration(text)
	d = Duration(parsed)

	return d, err == nil && d <= maxDuration && seconds.MatchString(text)
}
