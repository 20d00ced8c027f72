package serviceconfig

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

// Different matches have different keys, even if fmt prints them alike.
func TestSplit_KeysDiffer(t *testing.T) {
	keys := map[string]int{}
	for i, match := range []map[string]string{
		{"a": "b c:d"}, {"a": "b", "c": "d"}, {
			"a": `b" "c":"d`,
		}, {"a": `b"="c`}, {"a": "", "b": ""}, {"a": `";"b"="`}, {"a": "b"}, {"a b": ""},
	} {
		key := Split{Match: match, Weight: uint32(i)}.Key()
		if other, taken := keys[key]; taken {
			t.Errorf("the different splits %d and %d have the same key %s", other, i, key)
		}

		keys[key] = i
	}

	a := Split{Match: map[string]string{"a": "1", "b": "2"}, Weight: 1}

	b := Split{Match: map[string]string{"b": "2", "a": "1"}, Weight: 2}
	if a.Key() != b.Key() {
		t.Errorf("equal matches have the keys %s and %s, want equal keys", a.Key(), b.Key())
	}
}

// A drain ends at its time, whatever time zone the time is written in.
func TestEtcd_EndDrains(t *testing.T) {
	drains := []Drained{{Instance: "a"}, {Instance: "b", Until: "2026-12-01T10:00:00Z"},
		{Instance: "c", Until: "2026-12-01T10:00:00+01:00"}}
	noon := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for hour, want := range map[int]string{
		-4: "3, next -3h0m0s",
		-3: "2, next -2h0m0s",
		-2: "1, next 0s",
	} {
		e := &Etcd{Drain: drains}
		next := noon
		if at := e.EndDrains(noon.Add(time.Duration(hour) * time.Hour)); !at.IsZero() {
			next = at
		}

		if got := fmt.Sprintf("%d, next %v", len(e.Drain), next.Sub(noon)); got != want {
			t.Errorf("%d hours from noon: %s, want %s", hour, got, want)
		}
	}
}

func TestOptions_AreTheFieldsOfEtcd(t *testing.T) {
	var fields, options []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Etcd]()) {
		fields = append(fields, jsonName(f))
	}

	for _, o := range Options {
		options = append(options, o.Name)
	}

	if !slices.Equal(options, fields) {
		t.Errorf("the options are %q, want the fields of Etcd, %q", options, fields)
	}
}
