package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/clipperhouse/displaywidth"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// watched is a service of a few instances, one of them drained and one malformed.
func watched(values ...string) *view {
	const key = "acme/user"
	entries := []survey.Entry{{Key: survey.ConfigPrefix + key, Value: []byte(`{"loadBalancingConfig":[{"etcd":{"drain":["b"],"childPolicy":[{"round_robin":{}}]}}]}`)}}
	for n, value := range values {
		entries = append(entries, survey.Entry{Key: key + "/" + string(rune('a'+n)), Value: []byte(value), Lease: 1, CreateRevision: int64(n + 1), ModRevision: int64(n + 1)})
	}
	s := survey.All(entries)[0]
	times := map[int64]survey.LeaseTime{1: {Left: 14, Granted: 15}}
	return &view{services: []*survey.Service{s}, leases: times, full: func(key string) string { return key }}
}

const (
	fullValue = `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1","zone":"eu-1a","weight":100}}`
	longValue = `{"Addr":"a-host-with-a-long-name.production.example.com:9000","Metadata":{"version":"v1.2.3-20260101-abcdef","zone":"eu-1b","weight":100}}`
)

// TestFrame_Columns tells which columns are shown in which width, a line a rule.
func TestFrame_Columns(t *testing.T) {
	const all = "INSTANCE ADDRESS VERSION ZONE WEIGHT LAYOUT LEASE STATE"
	for _, tc := range []struct {
		name   string
		width  int
		values []string
		want   string
	}{
		{"all that fit", 200, []string{fullValue, longValue}, all},
		{"all, with long ones cut", 120, []string{fullValue, longValue}, all},
		{"all but the layout", 80, []string{fullValue, "10.0.0.8:9000"}, "INSTANCE ADDRESS VERSION ZONE WEIGHT LEASE STATE"},
		{"less beside long ones", 80, []string{fullValue, longValue}, "INSTANCE ADDRESS VERSION LEASE STATE"},
		{"what matters most", 40, []string{fullValue, longValue}, "INSTANCE ADDRESS STATE"},
		{"the state and what is left", 20, []string{fullValue, longValue}, "INSTANCE STATE"},
		{"the state alone", 10, []string{fullValue}, "STATE"},
		{"all but an address that is the name", 80, nil, "INSTANCE VERSION ZONE WEIGHT LAYOUT LEASE STATE"},
	} {
		v := watched(tc.values...)
		if tc.values == nil {
			v.services[0].Add(survey.Entry{Key: "acme/user/10.0.0.7:9000", Value: []byte("10.0.0.7:9000"), Lease: 1})
			v.services[0].Add(survey.Entry{Key: "acme/user/10.0.0.8:9000", Value: []byte("10.0.0.8:9000"), Lease: 1})
		}
		lines := frame(v, "acme/user", time.Now(), window{width: tc.width, height: 24})
		if got := strings.Join(strings.Fields(lines[2]), " "); got != tc.want {
			t.Errorf("%s, %d wide: %q, want %q", tc.name, tc.width, got, tc.want)
		}
	}
}

// TestFrame_MoreColumns draws a column that nobody knew of.
func TestFrame_MoreColumns(t *testing.T) {
	rows := watched(fullValue).rows()
	more := append(onScreen(columns), column{head: "NEW", cell: func(*row) string { return "new" }})
	for width := range 120 {
		frameTable(more, rows, 0, len(rows), width)
	}
	if got := frameTable(more, rows, 0, 1, 200)[1]; !strings.HasSuffix(got, "registered  new") {
		t.Errorf("the row is %q", got)
	}
}

// TestFrame has the state whole and every line within the width, whatever else there is.
func TestFrame(t *testing.T) {
	v := watched(append([]string{fullValue, longValue, "10.0.0.9:9000", "nonsense that no client can read, at some length"},
		`{"Addr":"10.0.0.10:9000","Metadata":{"version":"漢字漢字漢字漢字漢字漢字","zone":"größe"}}`)...)
	for _, width := range []int{20, 40, 80, 120, 200} {
		lines := frame(v, "acme/user", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), window{width: width, height: 24, note: strings.Repeat("note ", 50)})
		text := strings.Join(lines, "\n")
		for word, n := range map[string]int{"registered": 3, "drained": 1, "malformed": 1} {
			if got := len(regexp.MustCompile(`(?m) `+word).FindAllString(text, -1)); got != n {
				t.Errorf("%d wide: %q is there %d times, not %d:\n%s", width, word, got, n, text)
			}
		}
		for _, line := range lines {
			if got := displaywidth.String(line); got > width {
				t.Errorf("a line of %d in %d: %q", got, width, line)
			}
		}
		if len(lines) != frameHead+5 {
			t.Errorf("%d wide: %d lines:\n%s", width, len(lines), text)
		}
	}
	want := "acme/user at 03:04:05: 1 instance (q ends)\n\nINSTANCE  ADDRESS        VERSION  ZONE   WEIGHT  LAYOUT         LEASE       STATE\n" +
		"a         10.0.0.7:9000  v1       eu-1a  100     endpoint_json  14s of 15s  registered"
	lines := frame(watched(fullValue), "acme/user", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), window{width: 100, height: 24})
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestFrame_Leader shows who leads where somebody does, and lines tell that it is another.
func TestFrame_Leader(t *testing.T) {
	v := watched(fullValue, "10.0.0.9:9000")
	var out bytes.Buffer
	lines := &changeLines{out: &out, format: output.FormatTable}
	for _, leader := range []string{"", "a", "b"} {
		v.leaders = map[string]string{"acme/user": leader}
		text := strings.Join(frame(v, "acme/user", time.Now(), window{width: 120, height: 24}), "\n")
		if shown := regexp.MustCompile(`(?m)^(\S+) .* leader `).FindStringSubmatch(text); leader == "" && (shown != nil || strings.Contains(text, "LEADER")) || leader != "" && (shown == nil || shown[1] != leader) {
			t.Errorf("%q leads:\n%s", leader, text)
		}
		if err := lines.show(v); err != nil {
			t.Fatal(err)
		}
	}
	if text := out.String(); strings.Count(text, "~") != 3 || strings.Count(text, ", leader") != 2 {
		t.Errorf("the lines are\n%s", text)
	}
}

// TestFrame_Note says what is not known, until there is trouble to tell.
func TestFrame_Note(t *testing.T) {
	v := watched(fullValue)
	v.note = "live policies may not be read"
	for note, want := range map[string]string{"": v.note, "trouble": "trouble"} {
		if lines := frame(v, "acme/user", time.Now(), window{width: 80, height: 24, note: note}); lines[1] != want {
			t.Errorf("%q, want %q", lines[1], want)
		}
	}
}

func TestFrame_Height(t *testing.T) {
	var values []string
	for n := range 20 {
		values = append(values, fmt.Sprintf("10.0.0.%d:9000", n))
	}
	v := watched(values...)
	for _, tc := range []struct {
		height, offset int
		first, last    string
		lines          int
	}{
		{24, 0, "a", "t", 23},
		{23, 5, "a", "t", 23},
		{10, 0, "a", "1 to 6 of 20", 10},
		{10, 3, "d", "4 to 9 of 20", 10},
		{10, 99, "o", "15 to 20 of 20", 10},
		{10, -1, "a", "1 to 6 of 20", 10},
	} {
		lines := frame(v, "acme/user", time.Now(), window{width: 80, height: tc.height, offset: tc.offset})
		if len(lines) != tc.lines || !strings.HasPrefix(lines[3], tc.first+" ") || !strings.HasPrefix(lines[len(lines)-1], tc.last) {
			t.Errorf("%d high, from %d:\n%s", tc.height, tc.offset, strings.Join(lines, "\n"))
		}
	}
	for height := range 5 {
		if lines := frame(v, "acme/user", time.Now(), window{width: 80, height: height}); len(lines) > max(height, 1) {
			t.Errorf("%d lines for a height of %d", len(lines), height)
		}
	}
}

// TestWatch_Leases counts what changes cost etcd, with more instances than a terminal shows.
func TestWatch_Leases(t *testing.T) {
	t.Parallel()
	const instances, changes, height = 60, 2, 24
	etcd := etcdtest.Start(t)
	put := func(n int, value string) {
		t.Helper()
		putKey(t, etcd, fmt.Sprintf("acme/user/%03d", n), value, granted(t, etcd, 600))
	}
	for n := range instances {
		put(n, fmt.Sprintf("10.0.0.%d:9000", n))
	}
	cfg := settings{endpoints: etcd.Endpoints(), dialTimeout: soon, commandTimeout: soon}
	store, err := cfg.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	lines := func(f output.Format) func(*watch) {
		return func(w *watch) {
			l := &changeLines{out: io.Discard, format: f}
			w.show, w.wanted = l.show, l.leases
		}
	}
	for round, tc := range []struct {
		name                       string
		set                        func(*watch)
		first, seen, unseen, again int // requests for leases: at first, at a change that is shown, at one that is not, and at a refresh
	}{
		{"a terminal", func(w *watch) { newScreen(w).window.height = height }, 20, 1, 0, 20},
		{"lines", lines(output.FormatTable), 0, 0, 0, 0},
		{"JSON", lines(output.FormatJSON), instances, 1, 1, 0},
	} {
		w := &watch{store: store, key: "acme/user", show: func(*view) error { return nil }}
		tc.set(w)
		v := new(view)
		ask := func(what string, next *view, known map[int64]survey.LeaseTime, want int) {
			t.Helper()
			etcd.Calls().Reset()
			timed, err := w.time(t.Context(), next, known)
			if err == nil {
				err = w.show(timed)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := etcd.Calls().Count(etcdtest.LeaseTimeToLive, ""); got != want {
				t.Errorf("%s: %s took %d requests for leases, want %d", tc.name, what, got, want)
			}
			v = timed
		}
		look := func(what string, want int) {
			t.Helper()
			found, _, err := store.Service(t.Context(), w.key)
			if err != nil {
				t.Fatal(err)
			}
			known := v.leases
			if !w.refresh {
				known = nil
			}
			ask(what, &view{services: []*survey.Service{found}, full: store.Full}, known, want)
		}
		look("the first look", tc.first)
		look("no change", 0)
		for n := range changes {
			put(n, fmt.Sprintf("10.1.%d.%d:9000", round, n))
			look("a change that is shown", tc.seen)
			put(instances/2+n, fmt.Sprintf("10.2.%d.%d:9000", round, n))
			look("a change that is not shown", tc.unseen)
		}
		ask("a refresh", v, nil, tc.again)
	}
}

// TestView_Drain reads the list of what is drained once, however many instances there are.
func TestView_Drain(t *testing.T) {
	const instances, names = 100, 1000
	values := make([]string, instances)
	for n := range values {
		values[n] = fmt.Sprintf("10.0.0.%d:9000", n)
	}
	v := watched(values...)
	v.services[0].Config.Value = fmt.Appendf(nil, `{"loadBalancingConfig":[{"etcd":{"drain":[%s"b"],"childPolicy":[{"round_robin":{}}]}}]}`, strings.Repeat(`"x",`, names))
	for what, show := range map[string]func(){"rows": func() { v.rows() }, "json": func() { v.json() }} {
		if got := testing.AllocsPerRun(1, show); got > 10*(instances+names) {
			t.Errorf("%s: %.0f allocations for %d instances and a list of %d", what, got, instances, names)
		}
	}
}

// TestWatch_BrokenOutput ends a watch whose reader has gone.
func TestWatch_BrokenOutput(t *testing.T) {
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	reader, out := io.Pipe()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var errs bytes.Buffer
	code := newApp().execute(ctx, at(etcd, "watch", "acme/user"), out, &errs)
	if code != exitUnable || strings.Contains(errs.String(), "trying again") {
		t.Errorf("it ends with %d and says %s", code, errs.String())
	}
}
