package serviceconfig

import "testing"

// Different matches have different keys, even if they print alike (P9).
func TestSplit_KeysDiffer(t *testing.T) {
	keys := map[string]int{}
	for i, match := range []map[string]string{
		{"a": "b c:d"}, {"a": "b", "c": "d"}, {"a": `b" "c":"d`}, {"a": `b"="c`}, {"a": "", "b": ""}, {"a": `";"b"="`}, {"a": "b"}, {"a b": ""},
	} {
		key := Split{Match: match, Weight: uint32(i)}.Key()
		if other, taken := keys[key]; taken {
			t.Errorf("the splits %d and %d have the key %s", other, i, key)
		}
		keys[key] = i
	}
	a, b := Split{Match: map[string]string{"a": "1", "b": "2"}, Weight: 1}, Split{Match: map[string]string{"b": "2", "a": "1"}, Weight: 2}
	if a.Key() != b.Key() {
		t.Errorf("%s and %s are one group with two weights", a.Key(), b.Key())
	}
}
