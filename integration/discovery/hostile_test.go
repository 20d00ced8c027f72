package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// hostile holds texts that can forge lines, or do worse, if they are shown
// unescaped.
var hostile = []string{
	"a\nFIX: etcdctl del --prefix acme",
	"b\r\ntime=2026-01-02T03:04:05Z level=ERROR msg=forged",
	"c\x1b[2J\x1b[31mred",
	"d\x1b]8;;http:evil.example\x07link\x1b]8;;\x07",
	"e\u202egnp.exe\u2066\u2069\u200b\u200d\ufeff",
	"g\x00\x07\b\x7f\u0085\u2028\u2029\U000e0001\u00ad",
	"<script>alert(1)<!--\"'`",
	"h\xff\xfe",
	strings.Repeat("x\n", 5_000),
}

type object = map[string]any

// putJSON writes a string as it is, and other values as JSON without HTML
// escapes.
func (w *world) putJSON(etcdKey string, value any) {
	w.t.Helper()

	if text, ok := value.(string); ok {
		w.put(etcdKey, text)
		return
	}

	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	kit.Must(w.t, encoder.Encode(value))
	w.put(etcdKey, out.String())
}

// fillHostile puts entries of many layouts that have the hostile texts in their
// keys and values.
func (w *world) fillHostile() {
	w.t.Helper()

	for i, text := range hostile {
		addr := fmt.Sprintf("127.0.0.1:%d", i+1)
		tags := object{"version": text, "zone": text, "weight": text, text: text}
		for layout, value := range map[string]any{
			"json": object{"Addr": addr, "Metadata": tags}, "kratos": object{
				"name":      "user",
				"version":   text,
				"metadata":  tags,
				"endpoints": []string{"grpc://" + addr},
			},
			"kitex":     object{"network": "tcp", "address": addr, "tags": tags},
			"plain":     addr,
			"value":     text,
			"address":   object{"Addr": text},
			"op":        object{"Op": text, "Addr": addr},
			"kind":      object{"Addr": object{text: text}},
			"network":   object{"network": text, "address": addr},
			"endpoints": object{"endpoints": []string{"grpc://" + text}},
		} {
			w.putJSON(key+"/"+layout+text, value)
		}
	}
}

// harmless fails the test if a text has more than longest bytes, is not UTF-8,
// or has unprintable characters such as newlines.
func harmless(t *testing.T, what, text string, longest int) {
	t.Helper()

	i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
	if i >= 0 {
		t.Errorf("%s shows %.80q, want only printable characters", what, text[i:])
	}

	if !utf8.ValidString(text) {
		t.Errorf("%s shows %.80q, want valid UTF-8", what, text)
	}

	if len(text) > longest {
		t.Errorf("%s has %d bytes, want at most %d: %.80s", what, len(text), longest, text)
	}
}

func harmlessError(t *testing.T, what string, err error) {
	t.Helper()

	if err == nil {
		t.Errorf("%s: got no error, want one", what)
		return
	}

	harmless(t, what, err.Error(), 4<<10)
}

// naive is a log handler that escapes nothing.
type naive struct {
	slog.Handler
	out io.Writer
}

func (n naive) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%v %s", r.Level, r.Message)

	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%v", a.Key, a.Value.Any())
		return true
	})

	_, err := fmt.Fprintln(n.out, line.String())

	return err
}

// If a service has entries and live configs with hostile texts, the log and the
// errors escape the texts, and calls to another service succeed.
func TestHostileTexts_AreShownHarmlessly(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	w.fillHostile()
	w.registry = w.newRegistry(w.client,
		runtime.WithLogger(slog.New(naive{slog.NewTextHandler(w.logs, nil), w.logs})))
	conn := w.conn()
	w.put("acme/other/a", w.serve("other").addr)
	other := dial(t, w.registry, greeterAt("acme/other"))
	calls := func() {
		t.Helper()

		_, err := once(conn)
		harmlessError(t, "a call", err)
		reached(t, other, "other")
	}

	calls()
	kit.Eventually(t, "the endpoints of the service are known", func() bool {
		return w.status().Known
	})

	for _, layout := range []string{"json", "plain", "op"} {
		_, err := call(runtime.WithTarget(kit.Context(t), layout+hostile[0]), conn)
		harmlessError(t, "a call to an instance", err)
	}

	evil := hostile[0]
	w.putJSON(configKey, object{"loadBalancingConfig": []object{{evil: object{}}}, evil: evil})
	kit.Eventually(t, "the bad live config is seen", func() bool {
		return w.status().ConfigErr != nil
	})
	harmlessError(t, "Status", w.status().ConfigErr)

	w.putJSON(configKey, object{"loadBalancingConfig": []object{{"etcd": object{
		"drain": []string{"json" + evil, evil}, "split": []object{
			{"match": object{"version": evil}, "weight": 1},
			{"match": object{"version": evil, "zone": evil}, "weight": 1}},
		"childPolicy": []object{{"round_robin": object{}}}}}}})

	kit.Eventually(t, "the good live config is seen", func() bool {
		return w.status().ConfigErr == nil
	})
	calls()
	w.readErrors()

	for line := range strings.SplitSeq(strings.TrimSuffix(strings.Join(w.logs.Lines(), ""), "\n"),
		"\n") {
		harmless(t, "the log", line, 4<<10)

		if !strings.HasPrefix(line, "WARN ") && !strings.HasPrefix(line, "INFO ") {
			t.Errorf("log line %.80q, want it to begin with WARN or INFO", line)
		}
	}

	if w.logs.Count("malformed value in etcd skipped") == 0 {
		t.Error("no log line about malformed values, want at least one")
	}
}

// readErrors passes hostile texts to the methods of the registry, calls each
// instance, and checks the errors.
func (w *world) readErrors() {
	w.t.Helper()

	ctx := kit.Bounded(w.t, 4*kit.Soon)
	for _, evil := range hostile {
		// errors show printable texts unescaped, and long texts of the caller
		// in full
		if strings.HasPrefix(evil, "<script>") || len(evil) > 1000 {
			continue
		}

		_, err := w.registry.Register(ctx, key,
			runtime.Endpoint{Instance: evil, Addr: "127.0.0.1:1"})
		harmlessError(w.t, "Register", err)
		_, err = w.registry.Register(ctx, "acme/"+evil, runtime.Endpoint{Addr: "127.0.0.1:1"})
		harmlessError(w.t, "Register", err)
		_, err = w.registry.Register(ctx, key, runtime.Endpoint{Addr: evil})
		harmlessError(w.t, "Register", err)
		harmlessError(w.t, "Remove", w.registry.Remove(ctx, key, "nobody"+evil))

		for _, err := range w.registry.Watch(ctx, "acme/"+evil) {
			harmlessError(w.t, "Watch", err)
			break
		}
	}

	_, err := ask(ctx, w.instances())

	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		w.t.Fatalf("Each: %v, want one error for each instance", err)
	}

	for _, err := range all.Unwrap() {
		harmlessError(w.t, "Each", err)
	}
}
