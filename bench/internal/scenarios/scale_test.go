package scenarios

import (
	"math"
	"testing"
	"time"
)

func TestLastArrival(t *testing.T) {
	at := time.Unix(1000, 0)
	sent := []time.Time{at, at.Add(time.Second), at.Add(2 * time.Second)}
	arrived := func(ms ...int) map[string]float64 {
		values := make(map[string]float64)
		for i, late := range ms {
			values["at "+string(rune('0'+i))] = float64(sent[i].Add(time.Duration(late) * time.Millisecond).UnixNano())
		}
		return values
	}
	got := lastArrival(sent, []map[string]float64{arrived(1, 5, 9), arrived(8, 2, 3)})
	if want := 0.008; math.Abs(got-want) > 1e-6 { // the last arrivals are after 8, 5 and 9 ms
		t.Errorf("%v s, want %v s", got, want)
	}
}

func TestFleetsAreNamedByCase(t *testing.T) {
	for want, f := range map[string]*fleet{
		"1000 processes": {processes: 1000}, "100 processes behind grpc-proxy": {processes: 100, proxied: true},
	} {
		if got := f.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
