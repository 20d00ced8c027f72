package survey

import (
	"fmt"
	"strings"
	"testing"
)

// TestHomeMade tells what JSON is read as home-made, by the fields that it seems to have.
func TestHomeMade(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values map[string]string // by what the key ends in
		want   string            // layout, instance, address and version of each
	}{
		{"GoFrame's metadata has an address", map[string]string{"h:1": `{"metrics":"10.0.0.7:9100","version":"v1"}`}, "go_frame h:1 h:1 v1"},
		{"the address of the key is in a field, too", map[string]string{"h:80": `{"at":"h:80","ver":"v1"}`}, "json_layout h:80 h:80 v1"},
	} {
		var entries []Entry
		for name, value := range tt.values {
			entries = append(entries, Entry{Key: "acme/user/" + name, Value: []byte(value)})
		}
		s, _ := Of("acme/user", entries)
		var got []string
		for _, i := range s.Instances {
			got = append(got, strings.TrimSpace(fmt.Sprintln(s.LayoutName(i), i.Instance, i.Addr, i.Version)))
		}
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
}
