package catalog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/ads"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// Under changes without end, a host is mapped for a tenth of the time, and at
// least every second.
func TestThrottle(t *testing.T) {
	for takes, want := range map[time.Duration]int{
		40 * time.Millisecond:  26,
		400 * time.Millisecond: 8,
	} {
		synctest.Test(t, func(t *testing.T) {
			var h throttle

			mapped := 0
			changed := make(chan struct{}, 1)
			end := time.Now().Add(10 * time.Second)

			for ; time.Now().Before(end); mapped++ {
				if h.wait(func() { changed <- struct{}{} }) {
					<-changed
				}

				began := time.Now()
				time.Sleep(takes)
				h.spent(began)
			}

			if mapped != want {
				t.Errorf("%d mappings of %v in 10 s, want %d", mapped, takes, want)
			}
		})
	}
}

// A mistyped name is logged, because its client only waits.
func TestFind_UnknownName(t *testing.T) {
	var log bytes.Buffer
	c, _ := New(nil, nil, slog.New(slog.NewTextHandler(&log, nil)), nil) // no service is invalid

	found := c.Find(ads.Listeners, "acme.usr", mapping.Client{})
	if found.Pending || !strings.Contains(log.String(), "name=acme.usr") {
		t.Errorf("found %+v, want none; logged %s", found, &log)
	}
}
