package endpoint

import "testing"

// TestDecodeAllocations pins what an entry costs: a client may list ten thousand at once.
func TestDecodeAllocations(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        float64
	}{
		{"plain", "10.0.0.7:9000", 1},             // the address
		{"naming", `{"Addr":"10.0.0.7:9000"}`, 1}, // the address
		{"naming with a zone", `{"Addr":"10.0.0.7:9000","Metadata":{"zone":"a"}}`, 3},
		{"kitex", `{"network":"tcp","address":"10.0.0.7:9000","weight":10}`, 3},
	} {
		value := []byte(tt.value)
		got := testing.AllocsPerRun(100, func() {
			if _, _, _, err := reader.Decode("svc", "svc/10.0.0.7:9000", value, 0); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}
