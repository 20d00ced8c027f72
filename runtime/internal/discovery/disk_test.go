package discovery

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

func placeOf(from string) place {
	return place{Range: listwatch.Range{From: from, End: from + "0"}}
}

// newTestDisk returns a disk, and its log.
func newTestDisk(dir string) (*disk, *bytes.Buffer) {
	logs := new(bytes.Buffer)

	return newDisk(Config{
		SnapshotDir: dir, Allowed: func(string) error {
			return nil
		}, Logger: slog.New(slog.NewTextHandler(logs, nil)),
	}), logs
}

// loadOf returns the content that a new disk loads for a key.
func loadOf(dir string, p place) saved {
	d, _ := newTestDisk(dir)
	return d.load(p)
}

func TestDisk_KeepsTheLastOfEachKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when", "needed")
	d, _ := newTestDisk(dir)
	keys := []place{placeOf("prod/acme/user/"), placeOf("prod/acme/User/"),
		placeOf("/services/ünï/"), placeOf(strings.Repeat("long/", 100))}
	for i, p := range keys {
		if got := loadOf(dir, p); got.set != nil {
			t.Errorf("the disk has %q for %s before the first save, want nothing", names(got.set),
				p)
		}

		d.save(p, &saved{set: set("xyz")})
		d.save(p, &saved{set: set("abcd"[:i+1])})
	}

	d.close()                              // before the delay is over
	killed := filepath.Join(dir, ".tmp-1") // of a process that was killed while it wrote
	must.Succeed(t, errors.Join(os.WriteFile(killed, nil, 0o600),
		os.Chtimes(killed, time.Time{}, time.Now().Add(-2*time.Hour))))
	d.save(keys[0], &saved{set: set("z")})
	d.close()

	for i, p := range keys {
		if got := names(loadOf(dir, p).set); got != "abcd"[:i+1] {
			t.Errorf("the disk has %q for %s, want %q", got, p, "abcd"[:i+1])
		}
	}

	if files, err := os.ReadDir(dir); err != nil || len(files) != len(keys) {
		t.Errorf("the directory has %v, error %v, want one file for each key", files, err)
	}
}

// TestAllowedAddressesOnDisk loads addresses that the process may not dial.
func TestAllowedAddressesOnDisk(t *testing.T) {
	d, logs := newTestDisk(t.TempDir())
	d.save(placeOf("k/"), &saved{set: set("abc")})
	d.close()
	refused := map[string]error{"a:1": os.ErrPermission, "c:1": os.ErrPermission}
	d.cfg.Allowed = func(addr string) error { return refused[addr] }

	got := names(d.load(placeOf("k/")).set)
	if got != "b" || !strings.Contains(logs.String(), "left out") {
		t.Errorf("loaded %q, want only the allowed address of b; logged %s", got, logs)
	}
}

// A live config from the disk is checked like one from etcd. If it is invalid,
// the endpoints are used without it.
func TestDisk_LiveConfig(t *testing.T) {
	const good = `{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`
	for saves, want := range map[string]string{"": "", good: good, `{"retryThrottling":7}`: ""} {
		d, logs := newTestDisk(t.TempDir())
		d.save(placeOf("k/"), &saved{set("a"), saves})
		d.close()
		got := d.load(placeOf("k/"))

		warned := strings.Contains(logs.String(),
			"live service config saved on disk cannot be used")
		if got.live != want || names(got.set) != "a" || warned != (saves != want) {
			t.Errorf(
				"with %s on disk: loaded the config %q and endpoints %q, want %q and a; logged %s",
				saves, got.live, names(got.set), want, logs)
		}
	}
}

// Writes of a key that changes all the time are spaced.
func TestDisk_WritesAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := placeOf("k/")
		d, _ := newTestDisk(dir)
		defer d.close()

		writes := 0

		last := ""
		for i := range 100 {
			d.save(p, &saved{set: set("ab"[i%2 : i%2+1])})
			time.Sleep(saveDelay / 10)
			synctest.Wait()

			text, _ := os.ReadFile(d.path(p))
			if string(text) != last { // the file has the time of its write
				writes = writes + 1
				last = string(text)
			}
		}

		if writes < 8 || writes > 10 {
			t.Errorf("%d writes in ten times the delay, want 8 to 10", writes)
		}

		time.Sleep(2 * saveDelay)
		d.mu.Lock()
		d.next = time.Now().Add(time.Minute) // as after a slow write
		d.mu.Unlock()

		d.save(p, &saved{set: set("c")})
		time.Sleep(time.Minute - 1)
		synctest.Wait()

		if got := names(d.load(p).set); got == "c" {
			t.Error("a slow write is followed by another at once, want a pause")
		}
	})
}

// TestDisk_RetriesFailedWrites makes a write fail. The write is retried without
// a change of the endpoints, after a pause and at Close. The failure is logged
// once (K19).
func TestDisk_RetriesFailedWrites(t *testing.T) {
	// how long the failure lasts; 0 for until close
	for _, lasts := range []time.Duration{0, 5 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			mount := filepath.Join(t.TempDir(), "mount")
			p := placeOf("k/")

			err := os.WriteFile(mount, nil, 0o600)
			if err != nil { // so that no directory can be made there
				t.Fatal(err)
			}

			d, logs := newTestDisk(filepath.Join(mount, "dir"))
			d.cfg.Logger = slog.New(slog.NewTextHandler(
				logs,
				&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if !d.mu.TryLock() {
						t.Error("the disk logs with its lock held: a slow logger would delay updates of keys")
						return a
					}

					d.mu.Unlock()

					return a
				}},
			))

			d.save(p, &saved{set: set("a")})
			time.Sleep(2 * saveDelay)
			d.save(p, &saved{set: set("ab")})
			time.Sleep(2*saveDelay + lasts)
			synctest.Wait()
			must.Succeed(t, os.Remove(mount))

			if lasts > 0 {
				time.Sleep(saveRetry)
				synctest.Wait()
			} else {
				d.close()
			}

			if got := names(d.load(p).set); got != "ab" {
				t.Errorf(
					"after the directory is back, the disk has %q, want ab; the failure lasts %v",
					got, lasts)
			}

			d.close()

			if text := logs.String(); strings.Count(text, "cannot be saved") != 1 {
				t.Errorf("the log is %q, want one line about the failure, which lasts %v", text,
					lasts)
			}
		})
	}
}

var savedAt = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func backendsOf(endpoints ...endpoint.Endpoint) []*Backend {
	var set []*Backend
	for _, e := range endpoints {
		set = append(set, model.New(e, endpoint.EndpointJSON))
	}

	return set
}

// TestSnapshot_OneLimitForBothWays checks that each encoded snapshot can be
// decoded.
func TestSnapshot_OneLimitForBothWays(t *testing.T) {
	large := func(bytes int) []*Backend {
		return backendsOf(endpoint.Endpoint{
			Instance: "a",
			Addr:     "a:1",
			Metadata: map[string]string{"k": strings.Repeat("x", bytes)},
		})
	}

	text, err := encodeSnapshot(&saved{set: large(maxSnapshot - 200)}, savedAt)
	if err != nil || len(text) > maxSnapshot {
		t.Errorf("a snapshot below the limit has %d bytes, error %v, want at most %d", len(text),
			err, maxSnapshot)
	}

	for _, set := range [][]*Backend{large(maxSnapshot), slices.Repeat(large(maxSnapshot/8), 8)} {
		_, err := encodeSnapshot(&saved{set: set}, savedAt)
		if !errors.Is(err, errSnapshotTooLarge) {
			t.Errorf("%d endpoints beyond the limit: error %v, want %v", len(set), err,
				errSnapshotTooLarge)
		}
	}
}

// FuzzSnapshot decodes any text. The result is a set as from entries in etcd,
// and stays the same when it is encoded and decoded.
func FuzzSnapshot(f *testing.F) {
	text, err := encodeSnapshot(&saved{set: backendsOf(
		endpoint.Endpoint{
			Instance: "a",
			Addr:     "10.0.0.1:9000",
			Version:  "v2",
			Zone:     "<z>",
			Weight:   3,
			Metadata: map[string]string{"k": "é\n"},
		},
		endpoint.Endpoint{Instance: "b", Addr: "[::1]:9000"},
	), live: `{"a":["\u003c"]}`}, savedAt)
	if err != nil {
		f.Fatal(err)
	}

	f.Add(text)

	for _, endpoints := range []string{
		`[]`, `null`, `[null]`, `[{"addr":"h:1"},{"addr":"unix:1"}]`, `[{"addr":"h"}]`, `[{"ADDR":"[::1]:1","weight":-1}]`, "[{\"addr\":\"h:1\",\"zone\":\"\xff\"}]",
		`[{"instance":"b","addr":"h:2"},{"instance":"a","addr":"h:1"},{"instance":"c","addr":"h:1","zone":"z"}]`,
	} {
		f.Add([]byte(`{"saved":"2026-01-02T03:04:05Z","endpoints":` + endpoints + `}`))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		s, _, err := decodeSnapshot(text)
		if err != nil {
			return
		}

		addrs := make(map[string]bool)
		for _, b := range s.set {
			err := endpoint.CheckAddr(b.Endpoint.Addr, true)
			if err != nil || addrs[b.Endpoint.Addr] || b.Endpoint.Instance == "" {
				t.Fatalf("decoded %+v: %v", b.Endpoint, err)
			}

			addrs[b.Endpoint.Addr] = true
		}

		if !slices.IsSortedFunc(s.set, model.Compare) {
			t.Fatalf("decoded an unsorted set from %s", text)
		}

		first, err := encodeSnapshot(&s, savedAt)
		if err != nil {
			t.Fatalf("decoded %+v, which cannot be encoded: %v", s, err)
		}

		again, _, err := decodeSnapshot(first)
		if err != nil || !slices.EqualFunc(again.set, s.set, (*Backend).Equal) {
			t.Fatalf("decoded %s, and another set from its encoding %s, error %v", text, first, err)
		}

		if second, err := encodeSnapshot(&again, savedAt); err != nil ||
			string(second) != string(first) {
			t.Fatalf("encoded as %s, then as %s, error %v; want the same text", first, second, err)
		}
	})
}
