package store

import "testing"

// TestUnread says nothing of the live configs of a namespace that a prefix would lie in: most lie in none.
func TestUnread(t *testing.T) {
	s := &Store{User: "u"}
	entries, configs, namespace := PrefixRange("acme/user/"), PrefixRange("_grpc_config/acme/user"), PrefixRange("acme/_grpc_config/")
	const part = `The user "u" may read this part only: `
	const closed = `. Live policies under "_grpc_config/acme/user" may not be read by the user "u", so drained instances are shown as registered.`
	for _, tt := range []struct {
		parts []KeyRange
		want  string
	}{
		{[]KeyRange{Everything}, ""},
		{[]KeyRange{configs, namespace, entries}, ""},
		{[]KeyRange{configs, entries}, ""},
		{[]KeyRange{ConfigOf("acme/user"), namespace, entries}, part + "_grpc_config/acme/user, acme/user/*"},
		{[]KeyRange{namespace, entries}, part + "acme/user/*" + closed},
	} {
		if got := s.Unread(&Listing{Parts: tt.parts}, "acme/user/"); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.parts, got, tt.want)
		}
	}
}
