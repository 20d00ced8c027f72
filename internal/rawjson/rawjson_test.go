package rawjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestDepth(t *testing.T) {
	for _, tt := range []struct {
		text  string
		limit int
		want  int
	}{
		{``, 5, 0},
		{`1`, 5, 0},
		{`[]`, 5, 1},
		{`{"a":[{}],"b":{}}`, 5, 3},
		{`"[[[\"[["`, 5, 0},
		{`["\\",[]]`, 5, 2},
		{`[[[[`, 2, 3},
		{`]]]][`, 5, 0},
		{`"[`, 5, 0},
		{`"\`, 5, 0},
		{strings.Repeat("[", 1<<20), 32, 33},
	} {
		if got := Depth([]byte(tt.text), tt.limit); got != tt.want {
			t.Errorf("Depth(%.20s, %d) = %d, want %d", tt.text, tt.limit, got, tt.want)
		}
	}
}

// decode reads any valid JSON with Members, Elements and Text.
func decode(text []byte) any {
	switch text = bytes.TrimSpace(text); text[0] {
	case '{':
		object := map[string]any{}
		Members(text, func(name, value []byte) bool {
			object[string(name)] = decode(value)
			return true
		})

		return object

	case '[':
		list := []any{}
		for _, value := range Elements(text) {
			list = append(list, decode(value))
		}

		return list

	case '"':
		return Text(text)
	default:
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			return err
		}

		return v
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, `12`, `"é\ud83d\ude00"`,
		` { "a" : 1 , "b" : [ 1 , { } , "x" ] } `,
		`{"a":{"a":[[]]},"\u0061b":"\"}"}`,
		"[\n1.5e3,\ttrue ,null]",
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		Depth(text, 32)

		var want any
		if json.Unmarshal(text, &want) != nil || bytes.Count(text, []byte{','}) >= most {
			return
		}

		got := decode(text)
		if !reflect.DeepEqual(got, want) &&
			!strings.Contains(string(text), "\\u") &&
			!slices.Contains([]byte(strings.ToValidUTF8(string(text), "\xff")), 0xff) {
			t.Errorf("decoded %s\n%#v\nwant\n%#v", text, got, want)
		}
	})
}
