package xds

import "testing"

func TestRoundRobin(t *testing.T) {
	w := newWorld(t, "")
	w.add("a")
	w.add("b")
	c := w.goClient("")
	eventually(t, c, calls(20), "both", only("a", "b"))
	w.add("c")
	eventually(t, c, calls(30), "all three", only("a", "b", "c"))
}
