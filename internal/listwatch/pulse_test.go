package listwatch

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	var p pulse
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, tt := range []struct {
		stream uint64
		at     time.Duration
		want   bool
	}{
		{0, 0, true},
		{0, askedFor - 1, false},
		{1, askedFor - 1, true},
		{0, askedFor, true},
		{1, askedFor, false},
	} {
		if got := p.ask(tt.stream, at(tt.at)); got != tt.want {
			t.Errorf("stream %d is asked after %v: %v, want %v", tt.stream, tt.at, got, tt.want)
		}
	}
	if p.ask(2, at(time.Hour)); len(p.asked) != 1 {
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
