package methods

import "testing"

func TestServing(t *testing.T) {
	for _, tt := range []struct {
		name, method  string
		texts, others []string
		in            uint32
		elsewhere     bool
	}{
		{"nobody says anything", "/a.B/C", []string{"", ""}, nil, Every, false},
		{"all serve it", "/a.B/C", []string{"a.B/C", "a.B/C,D"}, nil, Every, false},
		{"one serves it", "/a.B/D", []string{"a.B/C", "a.B/C,D"}, nil, 0b10, false},
		{"silence is no refusal", "/a.B/D", []string{"a.B/C", "", "a.B/D"}, nil, 0b110, false},
		{"nobody names it", "/a.B/X", []string{"a.B/C", "", "z.Y/X"}, nil, 0b110, false},
		{"any that nobody names", "/a.B/", []string{"", "a.B/C", "z.Y/X"}, nil, 0b101, false},
		{"of an unknown service", "/q.Q/X", []string{"a.B/C", "z.Y/X"}, nil, Every, false},
		{"only others serve it", "/a.B/D", []string{"a.B/C"}, []string{"a.B/C,D"}, Every, true},
	} {
		if in, elsewhere := Serving(tt.method, tt.texts, tt.others); in != tt.in || elsewhere != tt.elsewhere {
			t.Errorf("%s: %b, %v; want %b, %v", tt.name, in, elsewhere, tt.in, tt.elsewhere)
		}
	}
}
