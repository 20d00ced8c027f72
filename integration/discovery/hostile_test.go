package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage"
)

// hostile are texts that would do harm where they are shown as they are.
var hostile = []string{
	"a\nFIX: etcdctl del --prefix acme",
	"b\r\ntime=2026-01-02T03:04:05Z level=ERROR msg=forged",
	"c\x1b[2J\x1b[31mred",
	"d\x1b]8;;http:evil.example\x07link\x1b]8;;\x07",
	"e\u202egnp.exe\u2066\u2069\u200b\u200d\ufeff",
	"g\x00\x07\b\x7f\u0085\u2028\u2029\U000e0001\u00ad",
	"<script>alert(1)<!--\"'`",
	"h\xff\xfe",
	strings.Repeat("x\n", 50_000),
}

type object = map[string]any

// fillHostile writes what somebody may write who may write the keys of a service and its live config.
func fillHostile(t *testing.T, client *clientv3.Client, key string) {
	t.Helper()
	for i, text := range hostile {
		addr := fmt.Sprintf("127.0.0.1:%d", i+1)
		tags := object{"version": text, "zone": text, "weight": text, text: text}
		for layout, value := range map[string]any{
			"json": object{"Addr": addr, "Metadata": tags}, "kratos": object{"name": "user", "version": text, "metadata": tags, "endpoints": []string{"grpc://" + addr}},
			"kitex": object{"network": "tcp", "address": addr, "tags": tags}, "plain": addr, "value": text,
			"address": object{"Addr": text}, "op": object{"Op": text, "Addr": addr}, "kind": object{"Addr": object{text: text}},
			"network": object{"network": text, "address": addr}, "endpoints": object{"endpoints": []string{"grpc://" + text}},
		} {
			put(t, client, key+"/"+layout+text, value)
		}
	}
}

func put(t *testing.T, client *clientv3.Client, key string, value any) {
	t.Helper()
	text, ok := value.(string)
	if !ok {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		must(t, encoder.Encode(value))
		text = out.String()
	}
	if _, err := client.Put(kit.Bounded(t, soon), key, text); err != nil {
		t.Fatal(err)
	}
}

// checkText fails if a text of one line would do harm where it is shown, or is long.
func checkText(t *testing.T, what, text string, longest int) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%s shows %.80q", what, text[i:])
	}
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8: %.80q", what, text)
	}
	if len(text) > longest {
		t.Errorf("%s has %d bytes: %.80s", what, len(text), text)
	}
}

// naive is a handler that escapes nothing.
type naive struct {
	slog.Handler
	out io.Writer
}

func (n naive) Handle(_ context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprintf(&line, "%v %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&line, " %s=%v", a.Key, a.Value.Any()); return true })
	_, err := fmt.Fprintln(n.out, line.String())
	return err
}

// TestS12_Registry follows a service whose keys and live configs are hostile, and reads all that a registry shows
// of it: the log through three handlers, the status page, and the errors that callers get.
func TestS12_Registry(t *testing.T) {
	leak.Beside(t)
	leak.Check(t)
	etcd := etcdtest.Start(t)
	const key = "acme/user"
	fillHostile(t, etcd.Admin(), key)
	logs := map[string]*lines{"text": {}, "JSON": {}, "naive": {}}
	handlers := map[string]slog.Handler{
		"text": slog.NewTextHandler(logs["text"], nil), "JSON": slog.NewJSONHandler(logs["JSON"], nil),
		"naive": naive{slog.NewTextHandler(logs["naive"], nil), logs["naive"]},
	}
	all := slog.NewMultiHandler(slices.Collect(maps.Values(handlers))...)
	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithLogger(slog.New(all)))
	defer registry.Close(context.Background())
	readHostile(t, registry, etcd.Admin(), key)
	for name := range handlers {
		kit.Eventually(t, soon, "the log has the malformed values", func() bool { return strings.Contains(logs[name].String(), "malformed value in etcd skipped") })
		checkLog(t, name, logs[name].String())
	}
}

func checkLog(t *testing.T, name, text string) {
	t.Helper()
	starts := map[string]string{"text": "time=", "JSON": `{"time":`, "naive": ""}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		checkText(t, "the log", line, 4<<10)
		if !strings.HasPrefix(line, starts[name]) || name == "naive" && !strings.HasPrefix(line, "WARN ") && !strings.HasPrefix(line, "INFO ") {
			t.Errorf("the log has a line of its own: %.80q", line)
		}
		if name == "JSON" && !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %.80q", line)
		}
	}
}

// readHostile reads what a registry shows.
func readHostile(t *testing.T, registry *runtime.Registry, admin *clientv3.Client, key string) {
	t.Helper()
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: key}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	checkError(t, "a call", check(kit.Bounded(t, soon), conn))
	kit.Eventually(t, soon, "the endpoints are known", func() bool { return registry.Status().Keys[0].Known })
	read := hostile
	if testing.Short() {
		read = hostile[:2] // a second for each live config
	}
	for i, evil := range read {
		for _, layout := range []string{"json", "plain", "op"} {
			checkError(t, "a call to an instance", check(runtime.WithTarget(kit.Bounded(t, soon), layout+evil), conn))
		}
		readConfigs(t, registry, admin, key, i, evil)
		checkError(t, "a call", check(kit.Bounded(t, soon), conn))
		if i == 0 {
			checkPage(t, registry)
		}
	}
	checkPage(t, registry)
	readErrors(t, registry, key)
	readEach(t, registry, key)
}

func check(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

// readConfigs puts a live config that holds a hostile text, the nth of some, and reads why it is not in force. The last
// one is good. Each takes a second, for a registry reads no more than one.
func readConfigs(t *testing.T, registry *runtime.Registry, admin *clientv3.Client, key string, n int, evil string) {
	t.Helper()
	status := func() runtime.KeyStatus { return registry.Status().Keys[0] }
	bad := []any{
		evil, object{evil: evil}, object{"loadBalancingConfig": []object{{evil: object{}}}}, object{"loadBalancingConfig": evil},
		object{"methodConfig": []object{{"name": []object{{"service": evil}, {"service": evil}}}}},
		object{"methodConfig": []object{{"name": []object{{}}, "timeout": evil}}},
	}
	put(t, admin, "_grpc_config/"+key, bad[n%len(bad)])
	kit.Eventually(t, soon, "the bad live config is seen", func() bool { return status().ConfigErr != nil })
	checkError(t, "Status", status().ConfigErr)
	checkPage(t, registry)
	evil = evil[:min(len(evil), 10_000)] // more would not be accepted
	put(t, admin, "_grpc_config/"+key, object{"loadBalancingConfig": []object{{"etcd": object{
		"drain": []string{"json" + evil, evil}, "split": []object{{"match": object{"version": evil}, "weight": 1}, {"match": object{"version": evil, "zone": evil}, "weight": 1}},
		"childPolicy": []object{{"round_robin": object{}}}}}}})
	kit.Eventually(t, soon, "the good live config is seen", func() bool { return status().ConfigErr == nil })
}

// readErrors reads the errors about names that a caller may have from etcd.
func readErrors(t *testing.T, registry *runtime.Registry, key string) {
	t.Helper()
	for _, evil := range hostile {
		if strings.HasPrefix(evil, "<script>") || len(evil) > 1000 {
			continue // an odd name, but one that shows; and what a caller gives is not cut
		}
		_, err := registry.Register(kit.Bounded(t, soon), key, runtime.Endpoint{Instance: evil, Addr: "127.0.0.1:1"})
		checkError(t, "Register", err)
		_, err = registry.Register(kit.Bounded(t, soon), "acme/"+evil, runtime.Endpoint{Addr: "127.0.0.1:1"})
		checkError(t, "Register", err)
		_, err = registry.Register(kit.Bounded(t, soon), key, runtime.Endpoint{Addr: evil})
		checkError(t, "Register", err)
		checkError(t, "Remove", registry.Remove(kit.Bounded(t, soon), key, "nobody"+evil))
		for _, err := range registry.Watch(kit.Bounded(t, soon), "acme/"+evil) {
			checkError(t, "Watch", err)
			break
		}
	}
}

// readEach reads the errors of calls to each instance.
func readEach(t *testing.T, registry *runtime.Registry, key string) {
	t.Helper()
	instances, err := registry.NewInstances(&runtime.ServiceDesc{Name: "acme.User", Key: key}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer instances.Close()
	same := func(c grpc.ClientConnInterface) grpc.ClientConnInterface { return c }
	err = runtime.Each(kit.Bounded(t, soon), instances, same, func(ctx context.Context, _ runtime.Endpoint, c grpc.ClientConnInterface) error { return check(ctx, c) })
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		t.Fatalf("Each: %v", err)
	}
	for _, err := range all.Unwrap() {
		checkError(t, "Each", err)
	}
}

func checkError(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	checkText(t, what, err.Error(), 4<<10)
}

func checkPage(t *testing.T, registry *runtime.Registry) {
	t.Helper()
	for _, format := range []string{"html", "json"} {
		w := httptest.NewRecorder()
		statuspage.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format="+format, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "etcdctl del") {
			t.Errorf("the page as %s: %d, %.100s", format, w.Code, w.Body)
		}
		for line := range strings.SplitSeq(w.Body.String(), "\n") {
			checkText(t, "the page as "+format, line, 1<<20)
			if strings.HasPrefix(strings.TrimSpace(line), "FIX:") || strings.Contains(line, "<script") {
				t.Errorf("the page as %s has the line %.80q", format, line)
			}
		}
	}
}
