package listwatch

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	var p pulse
	streams := [3]*stream{{}, {number: 1}, {number: 2}}
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, tt := range []struct {
		stream int
		at     time.Duration
		want   bool
	}{
		{0, 0, true},
		{0, askedFor - 1, false},
		{1, askedFor - 1, true},
		{0, askedFor, true},
		{1, askedFor, false},
	} {
		if got := p.ask(streams[tt.stream], at(tt.at)); got != tt.want {
			t.Errorf("stream %d is asked after %v: %v, want %v", tt.stream, tt.at, got, tt.want)
		}
	}
	if p.ask(streams[2], at(time.Hour)); len(p.asked) != 1 {
		t.Errorf("%d streams are remembered as asked, want the last", len(p.asked))
	}
	if _, ok := p.recent(time.Hour, start); ok {
		t.Error("there is a head before one was read")
	}
	p.head = head{header(1, 1, 10), start}
	for after, want := range map[time.Duration]bool{0: true, time.Second: true, time.Second + 1: false} {
		if h, ok := p.recent(time.Second, at(after)); ok != want || h.header.Revision != 10 {
			t.Errorf("after %v: %v, %v", after, h.header, ok)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	var p pulse
	for i, tt := range []struct{ at, took, want time.Duration }{
		{0, 900, 900}, // it had to wait for a connection, perhaps
		{0, 100, 100},
		{1, 900, 200}, {1, 900, 200}, {time.Second, 900, 200}, // an outage
		{time.Second + 1, 900, 287}, {2*time.Second + 1, 900, 363}, // a line that has become slow
		{2*time.Second + 2, 80, 80},
		{2*time.Second + 2, 0, 1}, // no time at all, in a bubble
	} {
		p.answered(tt.took, start.Add(tt.at))
		if p.roundTrip != tt.want {
			t.Errorf("read %d: %d, want %d", i, p.roundTrip, tt.want)
		}
	}
}
