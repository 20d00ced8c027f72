package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// value is a piece of valid JSON to be read. encoding/json is too lenient for that: it takes a field in
// any case, the last of two fields of a name, and null for every type.
type value struct {
	raw     []byte
	trusted bool // from the caller's own code, which may name policies that are not described
	proto   bool // from a proto file, all of whose faults are told, and which spells everything as it is used
}

// part returns what is below v.
func (v value) part(raw []byte) value { return value{raw, v.trusted, v.proto} }

// parseText checks that text is a JSON object. Hostile text costs little: the depth is checked before
// anything follows the nesting.
func parseText(text string) (value, error) {
	if text == "" {
		return value{}, errors.New("the service config is empty: want a JSON object")
	}
	if rawjson.Depth([]byte(text), MaxDepth) > MaxDepth {
		return value{}, fmt.Errorf("the service config nests objects and arrays deeper than %d", MaxDepth)
	}
	if !utf8.ValidString(text) {
		return value{}, errors.New("the service config is not valid UTF-8")
	}
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return value{}, fmt.Errorf("the service config is not a JSON object: %w", err)
	}
	v := value{raw: rawjson.SkipSpace(raw)}
	if v.raw[0] != '{' {
		return value{}, fmt.Errorf("the service config is %s: want a JSON object", v)
	}
	return v, nil
}

// String describes the value for an error, on one line and not at length.
func (v value) String() string {
	switch v.raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return fmt.Sprintf("%.60q", rawjson.Text(v.raw))
	default:
		return fmt.Sprintf("%.30s", v.raw)
	}
}

// Unwanted is a value that is not what it should be, both described for people.
type Unwanted struct {
	Want string
	Got  string // "": nothing, where something must be
}

func (e *Unwanted) Error() string {
	if e.Got == "" {
		return ErrMissing.Error()
	}
	return fmt.Sprintf("want %s, not %s", e.Want, e.Got)
}

// Is has a value that must be there wrap ErrMissing.
func (e *Unwanted) Is(err error) bool { return err == ErrMissing && e.Got == "" }

// wants returns the error that the value is not what is wanted.
func (v value) wants(what string) error { return &Unwanted{what, v.String()} }

// ErrMissing is a field that is left out and must not be.
var ErrMissing = errors.New("is missing")

// fields maps the fields that an object may have to how each is read.
type fields[T any] map[string]func(*T, value) error

// readObject reads an object. Each of its fields must be in the table and there once, and all required
// ones must be there.
func readObject[T any](v value, table fields[T], required ...string) (T, error) {
	var into T
	err := v.members(func(name string, member value) error {
		read, ok := table[name]
		if !ok {
			return unknownField(name, slices.Sorted(maps.Keys(table)))
		}
		required = slices.DeleteFunc(slices.Clone(required), func(r string) bool { return r == name })
		return in(name, read(&into, member))
	})
	if len(required) > 0 && (err == nil || v.proto) {
		unwanted := new(Unwanted)
		errors.As(table[required[0]](&into, value{raw: []byte("null")}), &unwanted)
		err = also(err, in(required[0], &Unwanted{Want: unwanted.Want}))
	}
	return into, err
}

func unknownField(name string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("unknown field %.80q: there is none", name)
	}
	return fmt.Errorf("unknown field %.80q: want %s", name, strings.Join(known, ", "))
}

// members calls read for each member of an object, until one is wrong or, of a proto file's, to the end. read must refuse all but a few
// names, since each name is compared with the ones before it.
func (v value) members(read func(name string, v value) error) error {
	if v.raw[0] != '{' {
		return v.wants("an object")
	}
	var err error
	var seen []string
	rawjson.Members(v.raw, func(rawName, raw []byte) bool {
		name := string(rawName)
		if slices.Contains(seen, name) {
			err = fmt.Errorf("the field %.80q is there twice", name)
			return false
		}
		seen = append(seen, name)
		err = also(err, read(name, v.part(raw)))
		return err == nil || v.proto
	})
	return err
}

// elements calls read for each element of an array that has at least one, as members does.
func (v value) elements(what string, read func(v value) error) error {
	if v.raw[0] != '[' {
		return v.wants("a list of " + what)
	}
	var err error
	n := 0
	rawjson.Elements(v.raw, func(raw []byte) bool {
		if wrong := read(v.part(raw)); wrong != nil {
			err = also(err, in(fmt.Sprintf("[%d]", n), wrong))
		}
		n++
		return err == nil || v.proto
	})
	if err == nil && n == 0 {
		return fmt.Errorf("the list is empty: name %s, or leave the field out", what)
	}
	return err
}

func (v value) text() (string, error) {
	if v.raw[0] != '"' {
		return "", v.wants("a string")
	}
	return rawjson.Text(v.raw), nil
}

func (v value) bool() (bool, error) {
	switch string(v.raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, v.wants("true or false")
}

// number reads a whole number, written without an exponent, as gRPC wants it.
func number[N uint32 | uint64](v value, least, most N) (N, error) {
	text := string(v.raw)
	if v.proto {
		text = strings.Trim(text, `"`) // as protobuf's JSON has numbers of 64 bits
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < uint64(least) || n > uint64(most) {
		return 0, v.wants(wantNumber(least, most))
	}
	return N(n), nil
}

func wantNumber[N uint32 | uint64](least, most N) string {
	return fmt.Sprintf("a whole number from %d to %d", least, most)
}

// positive reads a number above zero, at most most.
func (v value) positive(most float64) (float64, error) {
	f, err := v.float()
	if err != nil || f <= 0 || f > most {
		if math.IsInf(most, 1) {
			return 0, v.wants("a number, more than 0")
		}
		return 0, v.wants(fmt.Sprintf("a number, more than 0 and at most %v", most))
	}
	return f, nil
}

// notNegative reads a number, zero or more.
func (v value) notNegative() (float64, error) {
	f, err := v.float()
	if err != nil || f < 0 {
		return 0, v.wants("a number, 0 or more")
	}
	return f, nil
}

func (v value) float() (float64, error) {
	if c := v.raw[0]; c != '-' && (c < '0' || c > '9') {
		return 0, v.wants("a number")
	}
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil {
		return 0, v.wants("a number that is not beyond bounds")
	}
	return f, nil
}

// Duration is a duration whose JSON is protobuf's: "1.500s".
type Duration time.Duration

func (d Duration) String() string {
	seconds, nanos := int64(d)/int64(time.Second), int64(d)%int64(time.Second)
	text := fmt.Sprintf("%d.%09d", seconds, nanos)
	for _, zeros := range []string{"000", "000", ".000"} {
		text = strings.TrimSuffix(text, zeros)
	}
	return text + "s"
}

// MarshalJSON implements [json.Marshaler]. No negative duration is ever written.
func (d Duration) MarshalJSON() ([]byte, error) { return []byte(`"` + d.String() + `"`), nil }

// MaxDuration is the longest duration that is read: time.Duration holds little more.
const MaxDuration = Duration((math.MaxInt64/int64(time.Second) - 1) * int64(time.Second))

// anyPositive is the least duration above zero.
const anyPositive Duration = 1

// duration reads a duration of at least least.
func (v value) duration(least Duration) (Duration, error) {
	text, err := v.text()
	if err != nil {
		return 0, v.wants(`a duration such as "1.5s"`)
	}
	digits, negative := strings.CutPrefix(text, "-")
	d, ok := parseSeconds(digits)
	switch {
	case !ok:
		return 0, v.wants(`seconds such as "1.5s", at most ` + MaxDuration.String())
	case !negative && d >= least:
		return d, nil
	case least == anyPositive:
		return 0, v.wants("more than 0")
	default:
		return 0, v.wants("at least " + least.String())
	}
}

// parseSeconds reads seconds with at most nine decimals, within what time.Duration holds.
func parseSeconds(text string) (Duration, bool) {
	text, ok := strings.CutSuffix(text, "s")
	whole, decimals, point := strings.Cut(text, ".")
	if !ok || !isDigits(whole) || point && !isDigits(decimals) || len(whole) > 10 || len(decimals) > 9 {
		return 0, false
	}
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds > int64(MaxDuration)/int64(time.Second) {
		return 0, false
	}
	nanos, err := strconv.ParseInt((decimals + "000000000")[:9], 10, 64)
	d := Duration(seconds*int64(time.Second) + nanos)
	return d, err == nil && d <= MaxDuration
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// assign returns a function that stores a result in to, unless there is an error, which it returns. It
// makes a read of a field one expression.
func assign[T any](to *T) func(T, error) error {
	return func(x T, err error) error {
		if err == nil {
			*to = x
		}
		return err
	}
}

// set is assign for a field that may be left out.
func set[T any](to **T) func(T, error) error {
	return func(x T, err error) error {
		if err == nil {
			*to = &x
		}
		return err
	}
}
