package main

import (
	"bufio"
	"context"
	"fmt"
	"html"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// served is a console on an etcd.
type served struct {
	t    *testing.T
	etcd *etcdtest.Cluster
	url  string
	stop func() // ends the console and returns when it has
}

// serveConsole starts a console as `etcdrpc ui` does.
func serveConsole(t *testing.T, etcd *etcdtest.Cluster, o console.Options, change ...func(*settings)) *served {
	t.Helper()
	settings := settings{endpoints: etcd.Endpoints(), dialTimeout: soon, commandTimeout: soon}
	for _, c := range change {
		c(&settings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	store, err := settings.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Log, o.Loopback = log.New(t.Output(), "", 0), true
	h := startConsole(ctx, store, o)
	ended := make(chan error, 1)
	go func() { ended <- h.serve(ctx, listener, o.Log) }()
	stopped := false
	s := &served{t: t, etcd: etcd, url: "http://" + listener.Addr().String()}
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the console ended with: %v", err)
		}
		h.stop()
		store.Close()
	}
	t.Cleanup(s.stop)
	return s
}

// get returns a page.
func (s *served) get(path string, params ...string) (status int, body string) {
	s.t.Helper()
	return s.do(http.MethodGet, path, nil, params...)
}

// post sends a form.
func (s *served) post(path string, form url.Values, params ...string) (status int, body string) {
	s.t.Helper()
	return s.do(http.MethodPost, path, form, params...)
}

func (s *served) do(method, path string, form url.Values, params ...string) (status int, body string) {
	s.t.Helper()
	query := url.Values{}
	for i := 0; i < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path+"?"+query.Encode(), strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(raw) + resp.Header.Get("Location")
}

// listen returns the events of a page.
func (s *served) listen(ctx context.Context, path string) <-chan string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req) //nolint:bodyclose // the goroutine below closes it
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s answers %s", path, resp.Status)
	}
	events := make(chan string, 100)
	go func() {
		defer resp.Body.Close()
		defer close(events)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if event, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				events <- event
			}
		}
	}()
	return events
}

// await returns once an event has come.
func await(t *testing.T, events <-chan string, want string) {
	t.Helper()
	for deadline := time.After(soon); ; {
		select {
		case event, ok := <-events:
			if !ok {
				t.Fatalf("the events ended without %q", want)
			}
			if event == want {
				return
			}
		case <-deadline:
			t.Fatalf("no event %q came", want)
		}
	}
}

// fillFleet puts services with as many instances each into etcd, on one lease.
func fillFleet(t *testing.T, client *clientv3.Client, services, instances int) {
	t.Helper()
	granted, err := client.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	var ops []clientv3.Op
	flush := func() {
		if len(ops) == 0 {
			return
		}
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		ops = nil
	}
	for s := range services {
		for i := range instances {
			addr := fmt.Sprintf("10.%d.%d.%d:9000", s/250, s%250, i)
			value := fmt.Sprintf(`{"Addr":%q,"Metadata":{"version":"v1.%d","zone":"eu-1%c","weight":100,"team":"team-%d"}}`, addr, i%3, 'a'+rune(i%3), s%7)
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("acme/service-%03d/%s", s, addr), value, clientv3.WithLease(granted.ID)))
			if len(ops) == 100 {
				flush()
			}
		}
		if s%10 == 0 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sacme/service-%03d", survey.ConfigPrefix, s), `{"loadBalancingConfig":[{"round_robin":{}}]}`))
		}
	}
	flush()
}

// A fleet of 200 services and 10,000 instances opens at once, weighs little, and follows what changes.
func TestConsoleScale(t *testing.T) {
	etcd := etcdtest.Start(t)
	fillFleet(t, etcd.Admin(), 200, 50)
	began := time.Now()
	s := serveConsole(t, etcd, console.Options{})
	started := time.Since(began)

	began = time.Now()
	status, page := s.get("/")
	first := time.Since(began)
	began = time.Now()
	s.get("/")
	second := time.Since(began)
	bytes := len(page)
	for _, path := range []string{"/assets/console.css", "/assets/live.js", "/assets/icon.svg"} {
		_, asset := s.get(path)
		bytes += len(asset)
	}
	t.Logf("started in %v, the first page in %v, the next in %v; %d bytes with all that it loads", started, first, second, bytes)
	if status != http.StatusOK || strings.Count(page, "data-k=") != 200 {
		t.Fatalf("status %d, %d rows", status, strings.Count(page, "data-k="))
	}
	if bytes > 200_000 {
		t.Errorf("the page loads %d bytes, more than 200,000", bytes)
	}

	events := s.listen(t.Context(), "/events")
	await(t, events, "changed")
	for n := range 3 {
		put := time.Now()
		addr := fmt.Sprintf("10.99.0.%d:9000", n)
		if _, err := etcd.Admin().Put(t.Context(), "acme/service-007/"+addr, addr); err != nil {
			t.Fatal(err)
		}
		await(t, events, "changed")
		told := time.Since(put)
		_, page = s.get("/")
		shown := time.Since(put)
		t.Logf("a change is told after %v, and on the page after %v", told, shown)
		if want := fmt.Sprintf("<span>%d<span class=", 51+n); !strings.Contains(page, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
}

// The page of a service shows what becomes of each entry, and follows it.
func TestConsoleService(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	client := etcd.Admin()
	put := func(key, value string) {
		t.Helper()
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("acme/user/leaver", `{"Addr":"10.0.0.20:9000","Metadata":{"grpc_leaving":"true"}}`)
	put("acme/user/broken", `{"Addr":`)
	putConfig(t, etcd, "acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	s := serveConsole(t, etcd, console.Options{})
	page := s.settled("acme/user", "no-lease")
	for _, want := range []string{
		`<span class="s drained">drained</span>`, `<span class="s leaving">leaving</span>`, `<span class="s malformed">malformed</span>`,
		"malformed JSON", "of 10m0s", "50.0", `aria-label="undrain 10.0.0.8:9000"`, "in force",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
	put("acme/user/new", "10.0.0.30:9000")
	s.settled("acme/user", "10.0.0.30:9000")
	if _, err := client.Delete(t.Context(), "acme/user/new"); err != nil {
		t.Fatal(err)
	}
	s.settled("acme/user", `<span class="mark deleted">deleted</span>`)

	_, history := s.get("/history", "key", "acme/user")
	if n := strings.Count(history[strings.Index(history, "<main"):], "<code>acme/user/new</code>"); n != 2 {
		t.Errorf("the history has the new instance %d times:\n%s", n, history)
	}
	if !strings.Contains(history, "<code>_grpc_config/acme/user</code>") {
		t.Errorf("the history lacks the live config:\n%s", history)
	}
	compacted, err := etcd.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, history := s.get("/history", "key", "acme/user")
	if want := fmt.Sprintf("from revision %d on", compacted); status != http.StatusOK || !strings.Contains(history, want) {
		t.Errorf("status %d, without %q:\n%s", status, want, history)
	}
	if strings.Contains(history, "<code>acme/user/broken") {
		t.Errorf("the history has what was compacted:\n%s", history)
	}
	if status, _ := s.get("/service", "key", "acme/nothing"); status != http.StatusNotFound {
		t.Errorf("a service that is not there: status %d", status)
	}
	if status, body := s.get("/service", "key", "acme/user", "q", "v2"); status != http.StatusOK || strings.Contains(body, `<th scope="row">10.0.0.7:9000`) {
		t.Errorf("the filter shows what does not match")
	}
}

// The history of a service is its own, though its neighbours have keys that begin like its.
func TestConsoleHistory(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcd.Admin()
	granted, err := client.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	suffix := fmt.Sprintf("acme/user%d", granted.ID)
	for _, key := range []string{"acme/user/10.0.0.7:9000", "acme/user2/10.0.0.8:9000", "acme/user/eu/10.0.0.9:9000", suffix} {
		if _, err := client.Put(t.Context(), key, "10.0.0.1:9000", clientv3.WithLease(granted.ID)); err != nil {
			t.Fatal(err)
		}
		if key == suffix {
			if _, err := client.Put(t.Context(), "acme/user/10.0.0.2:9000", "10.0.0.2:9000"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	s := serveConsole(t, etcd, console.Options{})
	changes := func() map[string]int {
		t.Helper()
		_, page := s.get("/history", "key", "acme/user")
		counts := make(map[string]int)
		for _, row := range regexp.MustCompile(`<span class="mark (\w+)">.*?<code>(.*?)</code>`).FindAllStringSubmatch(page[strings.Index(page, "<main"):], -1) {
			counts[row[1]+" "+row[2]]++
		}
		return counts
	}
	want := map[string]int{
		"put acme/user/10.0.0.7:9000": 1, "deleted acme/user/10.0.0.7:9000": 1, "put " + suffix: 1, "deleted " + suffix: 1, "put acme/user/10.0.0.2:9000": 1,
	}
	if got := changes(); !maps.Equal(got, want) {
		t.Errorf("it is %v, not %v", got, want)
	}
	// What a key had is forgotten, that it was deleted is not.
	resp, err := client.Get(t.Context(), "acme/user")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if got, want := changes(), map[string]int{"deleted " + suffix: 1}; !maps.Equal(got, want) {
		t.Errorf("after a compaction it is %v, not %v", got, want)
	}
}

// What was found of a live config goes with it.
func TestConsoleMends(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	putConfig(t, etcd, key, `{"loadBalancingConfig":[{"round_robbin":{}}]}`)
	s := serveConsole(t, etcd, console.Options{})
	s.settled(key, "bad-policy")
	_, page := s.post("/propose", url.Values{"revision": {s.revision(key)}, "config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}}, "key", key, "kind", "policy")
	if status, page := s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key); status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", status, page)
	}
	if _, page := s.get("/service", "key", key); strings.Contains(page, "bad-policy") || !strings.Contains(page, "in force") {
		t.Errorf("the page is:\n%s", page)
	}
	s.settled(key, "Nothing is wrong with it")
}

// Pages say so while etcd is out of reach, and go on afterwards.
func TestConsoleWithoutEtcd(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{}, func(s *settings) { s.commandTimeout = 300 * time.Millisecond })
	events := s.listen(t.Context(), "/events")
	await(t, events, "changed")
	if _, err := etcd.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	etcd.Stop()
	for {
		_, page := s.get("/")
		if !strings.Contains(page, "acme/user") {
			t.Fatal("the services are gone from the page")
		}
		if strings.Contains(page, "What is shown may be old") {
			break
		}
		await(t, events, "changed")
	}
	// Nobody waits then for what would not come, and nothing is said to be so because it was not read.
	for _, path := range []string{"/service", "/history"} {
		status, page := s.get(path, "key", "acme/user")
		if status != http.StatusOK || !strings.Contains(page, "etcd is asked for nothing more") || strings.Contains(page, "Nothing of it is left") || strings.Contains(page, "its past from") {
			t.Errorf("%s: status %d:\n%s", path, status, page)
		}
	}
	if err := etcd.Restart(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, page := s.get("/"); !strings.Contains(page, "What is shown may be old") {
			break
		}
		await(t, events, "changed")
	}
}

// After etcd is restored from a backup the pages show what is there, and say what has changed.
func TestConsoleRestored(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	put := func(key string) {
		t.Helper()
		if _, err := etcd.Admin().Put(t.Context(), key+"/10.0.0.30:9000", "10.0.0.30:9000"); err != nil {
			t.Fatal(err)
		}
	}
	backup, err := etcd.Backup()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		put("acme/ghost")
	}
	s := serveConsole(t, etcd, console.Options{})
	if _, page := s.get("/"); !strings.Contains(page, "acme/ghost") {
		t.Fatalf("before, the page is:\n%s", page)
	}
	if err := etcd.RestoreBackup(backup); err != nil {
		t.Fatal(err)
	}
	put("acme/user")
	if page := s.settled("acme/user", "10.0.0.30:9000"); strings.Contains(page, "Nothing has changed") || !strings.Contains(page, `<span class="mark put">put</span>`) {
		t.Errorf("the page does not say what has changed:\n%s", page)
	}
	if _, page := s.get("/"); strings.Contains(page[strings.Index(page, "<main"):], "acme/ghost") {
		t.Errorf("the page shows what is gone:\n%s", page)
	}
}

// What a console starts ends with it, listeners that never leave included.
func TestConsoleEnds(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	ignore := goleak.IgnoreCurrent()
	s := serveConsole(t, etcd, console.Options{})
	for range 5 {
		await(t, s.listen(t.Context(), "/events"), "changed")
	}
	s.get("/service", "key", "acme/user")
	s.stop()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore)
}

// Whatever is in etcd, pages show it as text.
func TestConsoleHostile(t *testing.T) {
	etcd := etcdtest.Start(t)
	client := etcd.Admin()
	hostileWorld(t, client)
	for key, value := range map[string]string{
		"acme/big/a":                                   `{"Addr":"` + strings.Repeat("9", 1<<20) + `"}`,
		survey.ConfigPrefix + "acme/big":               strings.Repeat(`{"a":`, 200_000),
		"acme/<img src=x onerror=alert(1)>/10.0.0.1:1": "10.0.0.1:1",
		"\"><script>alert(1)</script>/10.0.0.1:1":      "10.0.0.1:1",
	} {
		if _, err := client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	s := serveConsole(t, etcd, console.Options{})
	_, overview := s.get("/")
	checkPage(t, "overview", overview)
	links := regexp.MustCompile(`href="(/service\?[^"]*)"`).FindAllStringSubmatch(overview, -1)
	if len(links) < 30 {
		t.Fatalf("the overview has %d services", len(links))
	}
	for n, link := range links {
		at, err := url.Parse(html.UnescapeString(link[1]))
		if err != nil {
			t.Fatal(err)
		}
		key := at.Query().Get("key")
		paths := []string{"/service", "/history"}
		if n%10 != 0 {
			paths = paths[:1] // etcd replays its past at its own pace
		}
		for _, path := range paths {
			status, page := s.get(path, "key", key)
			if status != http.StatusOK {
				t.Errorf("%s of %.60q: status %d", path, key, status)
			}
			checkPage(t, fmt.Sprintf("%s of %.60q", path, key), page)
		}
		for _, kind := range []string{"drain", "undrain", "split", "policy", "remove"} {
			_, page := s.post("/propose", url.Values{"revision": {"0"}, "config": hostile[:1]}, "key", key, "kind", kind, "instance", hostile[3])
			checkPage(t, fmt.Sprintf("%s of %.60q", kind, key), page)
		}
	}
	for _, text := range hostile[:len(hostile)-1] {
		_, page := s.get("/", "q", text)
		checkPage(t, "overview", page)
	}
}

var tags = regexp.MustCompile(`<(/?[a-zA-Z!][^\s>]*)[^>]*>`)

// checkPage fails if a page shows what does not print, runs what is not ours, or is far too long.
func checkPage(t *testing.T, what, page string) {
	t.Helper()
	checkShown(t, what, strings.NewReplacer("\t", "", "\u00a0", "").Replace(page))
	if n := strings.Count(page, "<script"); n != 1 {
		t.Errorf("%s: %d scripts", what, n)
	}
	for _, tag := range tags.FindAllString(page, -1) {
		if strings.HasPrefix(tag, "<img") || regexp.MustCompile(`\son\w+=`).MatchString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(tag, "")) {
			t.Errorf("%s: the tag %.80s", what, tag)
		}
	}
	if len(page) > 1<<20 {
		t.Errorf("%s: %d bytes", what, len(page))
	}
}
