package discovery

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

func allAllowed(string) error { return nil }

func newTestDisk(dir string) *disk {
	return newDisk(dir, func() []string { return []string{"etcd:2379"} }, allAllowed, readTest, slog.New(slog.DiscardHandler))
}

// loadOf returns what a new disk on dir has of a range.
func loadOf(t *testing.T, dir string, at place) saved {
	t.Helper()
	d := newTestDisk(dir)
	defer d.close()
	found := make(chan saved, 1)
	d.load(at, func(s saved) { found <- s })
	select {
	case s := <-found:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("the disk does not answer")
		return saved{}
	}
}

func TestDiskKeepsTheLastSet(t *testing.T) {
	dir := t.TempDir()
	rng := place{Range: listwatch.Range{From: "k/", End: "k0"}}
	d := newTestDisk(dir)
	for _, names := range []string{"a", "ab", "abc"} {
		d.save(rng, &saved{set: set(names), cluster: 1})
	}
	d.close() // before the delay is over: what is left is written
	d.close()
	<-d.done // close does not wait for a file system that is slow
	if got := names(loadOf(t, dir, rng).set); got != "abc" {
		t.Errorf("on disk: %q, want the last set", got)
	}
	d.save(rng, &saved{set: set("z"), cluster: 1}) // after the end: nothing
	if got := names(loadOf(t, dir, rng).set); got != "abc" {
		t.Errorf("on disk: %q after close", got)
	}
}

func TestAllowedAddressesOnDisk(t *testing.T) {
	dir, rng := t.TempDir(), place{Range: listwatch.Range{From: "k/", End: "k0"}}
	d := newTestDisk(dir)
	d.save(rng, &saved{set: set("abc"), cluster: 1})
	d.close()
	<-d.done
	var logs bytes.Buffer
	d = newTestDisk(dir)
	d.logger = slog.New(slog.NewTextHandler(&logs, nil))
	d.allowed = func(addr string) error {
		if addr == "b:1" {
			return nil
		}
		return errors.New("address is not allowed")
	}
	if got := names(d.read(rng).set); got != "b" {
		t.Errorf("from disk: %q, want what is allowed", got)
	}
	if got := logs.String(); !strings.Contains(got, "endpoints=2") || !strings.Contains(got, "address is not allowed") {
		t.Errorf("the log does not say how many are left out, and why: %s", got)
	}
	d.allowed = func(string) error { return errors.New("no") }
	if got := d.read(rng); got.set != nil {
		t.Errorf("from disk: %v, want nothing", got)
	}
}

// A live config from the disk is judged as one from etcd: without it, the endpoints are used still.
func TestLiveConfigOnDisk(t *testing.T) {
	dir, rng := t.TempDir(), place{Range: listwatch.Range{From: "k/", End: "k0"}}
	for saves, want := range map[string]string{"": "", `{"a":1}`: `{"a":1}`, `"bad"`: ""} {
		var logs bytes.Buffer
		d := newTestDisk(dir)
		d.logger = slog.New(slog.NewTextHandler(&logs, nil))
		d.config = func(l liveConfig) (string, error) { return readTest(liveConfig{strings.Trim(l.raw, `"`), l.size}) }
		d.save(rng, &saved{set("a"), saves, 1})
		d.close()
		<-d.done
		if got := d.read(rng); got.live != want || names(got.set) != "a" {
			t.Errorf("%s on disk: %q, %q", saves, got.live, names(got.set))
		}
		if warned := strings.Contains(logs.String(), "live service config remembered on disk cannot be used"); warned != (saves != want) {
			t.Errorf("%s on disk: the log is %s", saves, logs.String())
		}
	}
}

func TestDiskOff(t *testing.T) {
	d := newTestDisk("")
	d.load(place{Range: listwatch.Range{From: "k"}}, func(saved) { t.Error("something was found") })
	d.save(place{Range: listwatch.Range{From: "k"}}, &saved{})
	d.close()
}

// TestK8_AHungFileSystem has the disk's goroutine hang in a file, as on a file system that is gone:
// nobody else waits for it, and Close not for long.
func TestK8_AHungFileSystem(t *testing.T) { synctest.Test(t, testHungFileSystem) }

func testHungFileSystem(t *testing.T) {
	d := newTestDisk(t.TempDir())
	release, hung := make(chan struct{}), make(chan struct{})
	d.mu.Lock()
	d.loads = append(d.loads, func() { close(hung); <-release })
	d.poke()
	d.mu.Unlock()
	<-hung
	began := time.Now()
	d.load(place{Range: listwatch.Range{From: "k"}}, func(saved) {})
	for range 1000 {
		d.save(place{Range: listwatch.Range{From: "k"}}, &saved{set: set("a"), cluster: 1})
	}
	if took := time.Since(began); took > 0 {
		t.Errorf("the callers waited for %v", took)
	}
	d.close()
	if took := time.Since(began); took != flushBound {
		t.Errorf("close took %v, want %v", took, flushBound)
	}
	close(release)
	<-d.done
}

// What changes all the time is not written all the time.
func TestS14_WritesAreSpaced(t *testing.T) {
	dir, rng := t.TempDir(), place{Range: listwatch.Range{From: "k/", End: "k0"}}
	d := newTestDisk(dir)
	defer d.close()
	d.save(rng, &saved{set: set("a"), cluster: 1})
	d.mu.Lock()
	d.timer.Reset(0)
	d.mu.Unlock()
	deadline := time.Now().Add(10 * time.Second)
	for written := 0; written == 0; {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if written = len(files); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
	}
	for range 100 {
		d.save(rng, &saved{set: set("b"), cluster: 1})
		d.mu.Lock()
		waiting := d.timer != nil && len(d.saves) == 1 && len(d.due) == 0
		d.mu.Unlock()
		if !waiting {
			t.Fatal("a second write is under way at once")
		}
	}
	d.close()
	<-d.done
	if got := names(loadOf(t, dir, rng).set); got != "b" {
		t.Errorf("on disk: %q", got)
	}
}

// TestK19_ADiskThatComesBack writes what could not be written, with no change of the endpoints: after a bounded while, and
// at Close. It is in the log once.
func TestK19_ADiskThatComesBack(t *testing.T) {
	rng := place{Range: listwatch.Range{From: "k/", End: "k0"}}
	for _, lasts := range []time.Duration{0, 5 * time.Second, time.Hour} { // 0: until Close
		t.Run(lasts.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var logs bytes.Buffer
				mount := filepath.Join(t.TempDir(), "mount")
				if err := os.WriteFile(mount, nil, 0o600); err != nil { // no directory can be made there
					t.Fatal(err)
				}
				dir := filepath.Join(mount, "dir")
				d := newTestDisk(dir)
				d.logger = slog.New(slog.NewTextHandler(&logs, nil))
				d.save(rng, &saved{set: set("a"), cluster: 1})
				time.Sleep(2 * saveDelay)
				d.save(rng, &saved{set: set("ab"), cluster: 1})
				time.Sleep(2*saveDelay + lasts)
				synctest.Wait()
				if err := os.Remove(mount); err != nil {
					t.Fatal(err)
				}
				if lasts > 0 {
					time.Sleep(retryMax)
					synctest.Wait()
					if got := names(d.read(rng).set); got != "ab" {
						t.Errorf("on disk %v after it is back: %q", retryMax, got)
					}
				}
				d.close()
				<-d.done
				if got := names(d.read(rng).set); got != "ab" {
					t.Errorf("on disk after Close: %q", got)
				}
				if text := logs.String(); strings.Count(text, "cannot be remembered") != 1 || strings.Count(text, "remembered on disk again") != 1 {
					t.Errorf("the log: %s", text)
				}
			})
		})
	}
}
