package mapping

import (
	"fmt"
	"testing"
)

func BenchmarkMap(b *testing.B) {
	policy, err := ReadPolicy("")
	if err != nil {
		b.Fatal(err)
	}
	h := &Host{Authority: "a", Services: []Service{{Policy: policy}}}
	for i := range 1000 {
		h.Endpoints = append(h.Endpoints, ends(fmt.Sprint("i", i))...)
		h.Endpoints[i].Addr = fmt.Sprintf("10.1.%d.%d:9000", i/250, i%250)
	}
	for b.Loop() {
		if _, err := Map(h, Client{}); err != nil {
			b.Fatal(err)
		}
	}
}
