package leader

import (
	"path"
	"testing"
)

// Candidates for a key are none for the key that it is nested under.
func TestNestedKeys(t *testing.T) {
	g := newGroup(t)
	for _, key := range []string{"acme/order/eu", "acme/order"} {
		desc := under(key, nil)
		g.startAs(path.Base(key), desc)
		if who, _ := g.leader(g.clientOf(desc)); who != path.Base(key) {
			t.Errorf("%s leads %s", who, key)
		}
	}
}
