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
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/fleet"
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
	f := fleet.Start(ctx, store)
	o.Backend, o.Etcd, o.Log, o.Loopback = f, etcdText(store), log.New(t.Output(), "", 0), true
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, listener, console.New(o), o.Log) }()
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
		f.Close()
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

// listen returns the events of the page at an address.
func (s *served) listen(ctx context.Context, address string) <-chan string {
	s.t.Helper()
	return s.lines(ctx, address, "event: ")
}

// lines returns what follows a word on the lines of the events of a page.
func (s *served) lines(ctx context.Context, address, word string) <-chan string {
	s.t.Helper()
	path := "/events?at=" + url.QueryEscape(address)
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
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if event, ok := strings.CutPrefix(lines.Text(), word); ok {
				events <- event
			}
		}
	}()
	return events
}

// await returns the first event that comes of those that are wanted.
func await(t *testing.T, events <-chan string, wants ...string) string {
	t.Helper()
	for deadline := time.After(soon); ; {
		select {
		case event, ok := <-events:
			if !ok {
				t.Fatalf("the events ended without any of %q", wants)
			}
			if slices.Contains(wants, event) {
				return event
			}
		case <-deadline:
			t.Fatalf("no event of %q came", wants)
		}
	}
}

// shop fills etcd with a service of three instances in two versions, and one of another layout.
func shop(t *testing.T, etcd *etcdtest.Cluster) {
	t.Helper()
	lease := granted(t, etcd, 600)
	for key, value := range states["healthy"] {
		putKey(t, etcd, key, value, lease)
	}
}

// newShop serves a console of such an etcd, for a test that runs beside others.
func newShop(t *testing.T, o console.Options) *served {
	t.Helper()
	t.Parallel()
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	return serveConsole(t, etcd, o)
}

// in returns the console for a part of the test.
func (s *served) in(t *testing.T) *served {
	part := *s
	part.t = t
	return &part
}

// shows fails for each text that a page lacks.
func (s *served) shows(page string, wants ...string) {
	s.t.Helper()
	for _, want := range wants {
		if !strings.Contains(page, want) {
			s.t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
}

// hides fails for each text that a page has.
func (s *served) hides(page string, lies ...string) {
	s.t.Helper()
	for _, lie := range lies {
		if strings.Contains(page, lie) {
			s.t.Errorf("the page has %q:\n%s", lie, page)
		}
	}
}

// settled waits until the page of a service has a text.
func (s *served) settled(key, want string) string {
	s.t.Helper()
	address := "/service?key=" + url.QueryEscape(key)
	events := s.listen(s.t.Context(), address)
	for {
		if await(s.t, events, "news", "reload") == "reload" { // the service has come to be, and the page is followed anew
			events = s.listen(s.t.Context(), address)
		}
		if _, page := s.get("/service", "key", key); strings.Contains(page, want) {
			return page
		}
	}
}

func putConfig(t *testing.T, etcd *etcdtest.Cluster, key, config string) {
	t.Helper()
	putKey(t, etcd, survey.ConfigPrefix+key, config)
}

func liveConfigAt(t *testing.T, etcd *etcdtest.Cluster, key string) string {
	t.Helper()
	resp, err := etcd.Admin().Get(t.Context(), survey.ConfigPrefix+key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

// A page of 200 services weighs little, with all that it loads.
func TestConsoleWeight(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	for n := range 200 {
		putKey(t, etcd, fmt.Sprintf("acme/service-%03d/10.0.0.7:9000", n), `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1.2","zone":"eu-1a"}}`)
	}
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.get("/")
	bytes := len(page)
	for _, path := range []string{"/assets/console.css", "/assets/live.js", "/assets/icon.svg"} {
		_, asset := s.get(path)
		bytes += len(asset)
	}
	if n := strings.Count(page, "data-k="); n != 100 || bytes > 100_000 {
		t.Errorf("the page has %d rows and loads %d bytes, more than 100,000", n, bytes)
	}
	// A change is sent alone.
	events := s.lines(t.Context(), "/", "data: ")
	<-events
	putKey(t, etcd, "acme/a-new-one/10.0.0.7:9000", `{"Addr":"10.0.0.7:9000"}`)
	for event := range events {
		if len(event) > 5000 {
			t.Errorf("a change has %d bytes, more than 5,000: %.300s", len(event), event)
		}
		if strings.Contains(event, "a-new-one") {
			return
		}
	}
	t.Error("the change was not sent")
}

// Two hundred pages are told of a change, while another reads nothing of what it is sent.
func TestConsoleManyFollowers(t *testing.T) {
	s := newShop(t, console.Options{})
	slow, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := fmt.Fprintf(slow, "GET /events?at=/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	var all []<-chan string
	for n := range 200 {
		all = append(all, s.lines(t.Context(), fmt.Sprintf("/?page=%d", n%5), "data: "))
	}
	putKey(t, s.etcd, "acme/a-new-one/10.0.0.7:9000", "10.0.0.7:9000")
	deadline := time.After(soon)
	for n, events := range all {
		for told := false; !told; {
			select {
			case event := <-events:
				told = strings.Contains(event, "a-new-one")
			case <-deadline:
				t.Fatalf("page %d is not told", n)
			}
		}
	}
}

// The page of a service shows what becomes of each entry, and follows it.
func TestConsoleService(t *testing.T) {
	s := newShop(t, console.Options{})
	putKey(t, s.etcd, "acme/user/leaver", `{"Addr":"10.0.0.20:9000","Metadata":{"grpc_leaving":"true"}}`)
	putKey(t, s.etcd, "acme/user/broken", `{"Addr":`)
	putConfig(t, s.etcd, "acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	page := s.settled("acme/user", "no-lease")
	s.shows(page, `<span class="s drained">drained</span>`, `<span class="s leaving">leaving</span>`, `<span class="s malformed">malformed</span>`,
		"malformed JSON", ">10m<", "50.0", `aria-label="undrain 10.0.0.8:9000"`, "in force")
	putKey(t, s.etcd, "acme/user/new", "10.0.0.30:9000")
	s.settled("acme/user", "10.0.0.30:9000")
	deleteKey(t, s.etcd, "acme/user/new")
	s.settled("acme/user", `<span class="mark deleted">deleted</span>`)
	if status, _ := s.get("/service", "key", "acme/nothing"); status != http.StatusNotFound {
		t.Errorf("a service that is not there: status %d", status)
	}
	_, page = s.get("/service", "key", "acme/user", "q", "v2")
	s.hides(page, `<th scope="row">10.0.0.7:9000`)
}

// The history of a service is its own, though its neighbours have keys that begin like its.
func TestConsoleHistory(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	lease := granted(t, etcd, 600)
	suffix := fmt.Sprintf("acme/user%d", lease)
	for _, key := range []string{"acme/user/10.0.0.7:9000", "acme/user2/10.0.0.8:9000", "acme/user/eu/10.0.0.9:9000", suffix} {
		putKey(t, etcd, key, "10.0.0.1:9000", lease)
		if key == suffix {
			putKey(t, etcd, "acme/user/10.0.0.2:9000", "10.0.0.2:9000")
		}
		deleteKey(t, etcd, key)
	}
	putConfig(t, etcd, "acme/user", weighted)
	s := serveConsole(t, etcd, console.Options{})
	changes := func(want map[string]int, text string) {
		t.Helper()
		_, page := s.get("/history", "key", "acme/user")
		s.shows(page, text)
		got := make(map[string]int)
		for _, row := range regexp.MustCompile(`<span class="mark (\w+)">.*?<code>(.*?)</code>`).FindAllStringSubmatch(page[strings.Index(page, "<main"):], -1) {
			got[row[1]+" "+row[2]]++
		}
		if !maps.Equal(got, want) {
			t.Errorf("it is %v, not %v", got, want)
		}
	}
	changes(map[string]int{
		"put acme/user/10.0.0.7:9000": 1, "deleted acme/user/10.0.0.7:9000": 1, "put " + suffix: 1, "deleted " + suffix: 1, "put acme/user/10.0.0.2:9000": 1,
		"put _grpc_config/acme/user": 1,
	}, "")
	deleteKey(t, etcd, suffix[:len("acme/user")]+"/10.0.0.2:9000")
	compacted, err := etcd.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What a key had is forgotten, that it was deleted is not.
	changes(map[string]int{"deleted acme/user/10.0.0.2:9000": 1}, fmt.Sprintf("from revision %d on", compacted))

	// What its clients read in a namespace is its own, too.
	putKey(t, etcd, "prod/acme/user/10.0.0.3:9000", "10.0.0.3:9000")
	putKey(t, etcd, "prod/_grpc_config/acme/user", weighted)
	s.settled("prod/acme/user", "<code>prod/_grpc_config/acme/user</code>")
	_, page := s.get("/history", "key", "prod/acme/user")
	s.shows(page, "<code>prod/_grpc_config/acme/user</code>", "<code>prod/acme/user/10.0.0.3:9000</code>")
}

// What was found of a live config goes with it.
func TestConsoleMends(t *testing.T) {
	const key = "acme/user"
	s := newShop(t, console.Options{})
	putConfig(t, s.etcd, key, `{"loadBalancingConfig":[{"round_robbin":{}}]}`)
	s.settled(key, "bad-policy")
	_, page := s.propose(key, "policy", url.Values{"config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}})
	s.apply(key, page, http.StatusSeeOther)
	_, page = s.get("/service", "key", key)
	s.shows(page, "in force")
	s.hides(page, "bad-policy")
	s.settled(key, "Nothing is wrong with what etcd has of it")
}

// Pages say so while etcd is out of reach, and go on afterwards. After etcd is restored from a backup they show what is there,
// and say what has changed.
func TestConsoleWithoutEtcd(t *testing.T) {
	night(t)
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	backup, err := etcd.Backup()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		putKey(t, etcd, "acme/ghost/10.0.0.30:9000", "10.0.0.30:9000")
	}
	s := serveConsole(t, etcd, console.Options{}, func(s *settings) { s.commandTimeout = 300 * time.Millisecond })
	events := s.listen(t.Context(), "/")
	await(t, events, "news")
	overview := func(old bool) {
		t.Helper()
		for {
			_, page := s.get("/")
			s.shows(page, "acme/user", "acme/ghost")
			if strings.Contains(page, "What is shown may be old") == old {
				return
			}
			await(t, events, "news")
		}
	}
	etcd.Stop()
	overview(true)
	// Nobody waits then for what would not come, and nothing is said to be so because it was not read.
	for _, path := range []string{"/service", "/history"} {
		_, page := s.get(path, "key", "acme/user")
		s.shows(page, "etcd is asked for nothing more")
		s.hides(page, "Nothing of it is left", "its past from")
	}
	if err := etcd.Restart(); err != nil {
		t.Fatal(err)
	}
	overview(false)
	if err := etcd.RestoreBackup(backup); err != nil {
		t.Fatal(err)
	}
	putKey(t, etcd, "acme/user/10.0.0.30:9000", "10.0.0.30:9000")
	page := s.settled("acme/user", "10.0.0.30:9000")
	s.shows(page, `<span class="mark put">put</span>`)
	s.hides(page, "Nothing has changed")
	_, page = s.get("/")
	s.hides(page[strings.Index(page, "<main"):], "acme/ghost")
}

// What a console starts ends with it, listeners that never leave included.
func TestConsoleEnds(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	ignore := goleak.IgnoreCurrent()
	s := serveConsole(t, etcd, console.Options{})
	for range 5 {
		await(t, s.listen(t.Context(), "/"), "news")
	}
	s.get("/service", "key", "acme/user")
	s.stop()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore)
}

// Whatever is in etcd, pages show it as text.
func TestConsoleHostile(t *testing.T) {
	night(t)
	etcd := etcdtest.Start(t)
	hostileWorld(t, etcd)
	for key, value := range map[string]string{
		"acme/big/a":                                   `{"Addr":"` + strings.Repeat("9", 1<<20) + `"}`,
		survey.ConfigPrefix + "acme/big":               strings.Repeat(`{"a":`, 200_000),
		"acme/<img src=x onerror=alert(1)>/10.0.0.1:1": "10.0.0.1:1",
		"\"><script>alert(1)</script>/10.0.0.1:1":      "10.0.0.1:1",
	} {
		putKey(t, etcd, key, value)
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
