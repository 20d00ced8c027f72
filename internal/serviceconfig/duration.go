package serviceconfig

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Duration is a duration whose JSON is protobuf's: "1.500s".
type Duration time.Duration

// MaxDuration is the longest accepted duration. time.Duration holds little more.
const MaxDuration = Duration((math.MaxInt64/int64(time.Second) - 1) * int64(time.Second))

func (d Duration) String() string {
	seconds, nanos := int64(d)/int64(time.Second), int64(d)%int64(time.Second)
	text := fmt.Sprintf("%d.%09d", seconds, nanos)
	for _, zeros := range []string{"000", "000", ".000"} {
		text = strings.TrimSuffix(text, zeros)
	}
	return text + "s"
}

// MarshalJSON implements [json.Marshaler]. Durations are never negative.
func (d Duration) MarshalJSON() ([]byte, error) { return []byte(`"` + d.String() + `"`), nil }

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
		p.wants(`seconds such as "1.5s", at most `+MaxDuration.String(), v)
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

// parseSeconds parses seconds with at most nine decimals, up to MaxDuration.
func parseSeconds(text string) (d Duration, ok bool) {
	parsed, err := time.ParseDuration(text)
	d = Duration(parsed)
	return d, err == nil && d <= MaxDuration && seconds.MatchString(text)
}
