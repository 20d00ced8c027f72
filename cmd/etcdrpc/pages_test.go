package main

import (
	"context"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// browser sends requests to a command that serves pages.
type browser struct {
	t    testing.TB
	base string
}

// openPages runs a command that serves pages until the test ends.
func openPages(t testing.TB, command ...string) browser {
	t.Helper()

	f := startFollower(newApp(), command)
	t.Cleanup(func() {
		f.stop()

		if code := ends(t, f.code); code != 0 {
			t.Errorf("%q exited with %d: %s", command, code, f.String())
		}
	})

	must(t, f.wait(`at http://\S+\n`))

	return browser{t, regexp.MustCompile(`http://[^/]+`).FindString(f.String())}
}

// answer is the response to a request.
type answer struct {
	code   int
	header http.Header
}

// do sends a request, and returns the response and its body.
func (b browser) do(
	method, path string,
	form url.Values,
	change func(*http.Request),
) (answer, string) {
	b.t.Helper()

	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path,
		strings.NewReader(form.Encode()))
	must(b.t, err)

	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	if change != nil {
		change(req)
	}

	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	resp, err := client.Do(req)
	must(b.t, err)

	defer resp.Body.Close()

	body, err := io.ReadAll(resp.Body)
	must(b.t, err)

	if strings.Contains(string(body), "<li>10.") {
		b.t.Errorf("an address in a list may break over lines: %s", body)
	}

	return answer{resp.StatusCode, resp.Header}, regexp.MustCompile(`</?bdi>`).ReplaceAllString(
		string(body), "")
}

// await requests a page until it matches.
func (b browser) await(path, want string) (resp answer, body string) {
	b.t.Helper()

	match := regexp.MustCompile(want)
	for until := time.Now().Add(soon); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		resp, body = b.do(http.MethodGet, path, nil, nil)
		if match.MatchString(body) {
			return resp, body
		}
	}

	b.t.Fatalf("%s does not show %s:\n%.3000s", path, want, body)

	return resp, body
}

// form returns the fields of the form on an edit's page, and the problem that
// the page reports.
func (b browser) form(page string) (sent url.Values, problem string) {
	sent = url.Values{}
	for _, field := range regexp.MustCompile(
		`<input type="hidden" name="(\w+)" value="(.*?)">`).FindAllStringSubmatch(page, -1) {
		sent.Add(field[1], html.UnescapeString(field[2]))
	}

	found := regexp.MustCompile(`(?s)role="alert">(.*?)</p>`).FindStringSubmatch(page)
	if found != nil {
		problem = html.UnescapeString(strings.NewReplacer("<b>", "", "</b>", "").Replace(found[1]))
	}

	return sent, problem
}

// putUser puts an instance of acme/user.
func putUser(t testing.TB, etcd *etcdtest.Cluster, addr, version string) {
	t.Helper()
	putKey(t, etcd, "acme/user/"+addr, `{"Addr":"`+addr+`","Metadata":{"version":"`+version+`"}}`,
		granted(t, etcd, 600))
}

// TestConsole_Pages checks that pages show the services, their changes and an
// outage, and support searches. The console must send a page only if the page
// has changed.
// A read-only console has no forms, and changes nothing.
func TestConsole_Pages(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putUser(t, etcd, "10.0.0.7:9000", "v1")
	putUser(t, etcd, "10.0.0.8:9000", "v2")
	putKey(t, etcd, "acme/order/10.0.0.7:9001", "10.0.0.7:9001")
	putKey(t, etcd, "_grpc_config/acme/order", `{"loadBalancingConfig":[`)
	b := openPages(t, at(etcd, "ui")...)

	_, page := b.await("/", `acme/order`)
	if strings.Index(page, "acme/order") > strings.Index(page, "acme/user") {
		t.Error("acme/user is listed first, want acme/order, which has an error")
	}

	for path, want := range map[string]string{
		"/?q=v2+10.0.0.8":             `acme/user</a>`,
		"/?q=nobody":                  `No service is found`,
		"/?q=bad-config":              `acme/order</a>`,
		"/service?key=acme/order":     `(?s)<b>error: bad-config</b>.*<td data-label="Lease">none</td>.*Clients do not go by it`,
		"/service?key=acme/user":      `(?s)10\.0\.0\.7:9000.*clients use load_balancing of the proto file.*value="v2" selected>v2: 1 instance`,
		"/service?key=acme/user&q=v2": `10\.0\.0\.8:9000`,
	} {
		resp, page := b.await(path, want)
		again, body := b.do(http.MethodGet, path, nil, func(r *http.Request) {
			r.Header.Set("If-None-Match", resp.header.Get("ETag"))
		})
		if again.code != http.StatusNotModified {
			t.Errorf("%s requested again with its ETag: status %d, want %d: %s", path, again.code,
				http.StatusNotModified, body)
		}

		if strings.Contains(path, "q=") &&
			strings.Contains(page, `acme/user</a>`) &&
			strings.Contains(page, `acme/order</a>`) {
			t.Errorf("the search %s finds both services, want one", path)
		}
	}

	b.await("/assets/console.css", `bdi { white-space: nowrap;`)

	resp, _ := b.await("/service?key=nobody", "Nothing is registered under this key")
	if resp.code != http.StatusNotFound || !strings.HasPrefix(
		resp.header.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'") {
		t.Errorf("an unknown service: status %d, header %v, want %d and a security policy",
			resp.code, resp.header, http.StatusNotFound)
	}

	putKey(t, etcd, "_grpc_config/acme/user",
		`{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.7:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	b.await("/service?key=acme/user&q=drained",
		`(?s)0\.0 %</td><td data-label="State" class="text"><span class="state drained">`)
	resp, _ = b.await("/", "10.0.0.9|drained")
	putKey(t, etcd, "elsewhere", "of no service")
	b.await("/service?key=acme/user", "100.0 %")

	again, _ := b.do(http.MethodGet, "/", nil, nil)
	if again.header.Get("ETag") != resp.header.Get("ETag") {
		t.Error("the ETag of a page changes although its content is the same")
	}

	etcd.Cut()
	b.await("/", `(?s)What is shown may be old.*acme/user`)
	etcd.Restore()
	putUser(t, etcd, "10.0.0.9:9000", "v2")

	if _, page := b.await("/service?key=acme/user", "10.0.0.9:9000"); strings.Contains(page,
		"may be old") {
		t.Error("the page says that it may be old after etcd is reachable again")
	}

	b = openPages(t, at(etcd, "ui", "--read-only")...)
	if _, page := b.await("/service?key=acme/user", "10.0.0.9:9000"); strings.Contains(page,
		"/edit") {
		t.Errorf("a page of a read-only console has forms: %s", page)
	}

	edit := url.Values{"key": {"acme/user"}, "kind": {"drain"}, "name": {"10.0.0.9:9000"}}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp, _ := b.do(method, "/edit?"+edit.Encode(), edit, nil)
		if resp.code != http.StatusForbidden {
			t.Errorf("%s /edit on a read-only console: status %d, want %d", method, resp.code,
				http.StatusForbidden)
		}
	}
}

// TestConsole_Edits checks that a page shows the effects of an edit, that only
// an edit seen by the reader is written, and that errors are explained.
func TestConsole_Edits(t *testing.T) {
	t.Parallel()

	etcd := etcdtest.Start(t)
	for addr, version := range map[string]string{
		"10.0.0.1:1": "v1",
		"10.0.0.2:1": "v1",
		"10.0.0.3:1": "v2",
		"10.0.0.4:1": "v3",
	} {
		putUser(t, etcd, addr, version)
	}

	live := func() string {
		resp, err := etcd.Admin().Get(t.Context(), "_grpc_config/acme/user")
		if err != nil || len(resp.Kvs) == 0 {
			return ""
		}

		return string(resp.Kvs[0].Value)
	}

	b := openPages(t, at(etcd, "ui")...)
	b.await("/", "acme/user")
	const edit = "/edit?key=acme/user&kind="

	write := func(path, says, want string) (undo url.Values) {
		t.Helper()

		_, page := b.await(path, says)
		sent, _ := b.form(page)

		resp, page := b.do(http.MethodPost, "/edit", sent, nil)
		if resp.code != http.StatusSeeOther || !strings.Contains(live(), want) {
			t.Fatalf("writing %s: status %d, live config %s, want %s: %.2000s", path, resp.code,
				live(), want, page)
		}

		_, page = b.await(resp.header.Get("Location"),
			`The live config is written.*<button name="kind" value="undo">`)
		undo, _ = b.form(page)
		undo.Set("kind", "undo")

		return undo
	}

	writeTwice := func(path, says, want string) {
		t.Helper()

		before := live()
		undo := write(path, says, want)
		resp, _ := b.do(http.MethodPost, "/edit", undo, nil)
		b.await(resp.header.Get("Location"), "The live config is (written|removed)")
		resp, page := b.do(http.MethodPost, "/edit", undo, nil)

		_, problem := b.form(page)
		if resp.code != http.StatusConflict ||
			!strings.HasPrefix(problem, "Not written: somebody has changed") ||
			live() != before {
			t.Fatalf("undoing %s twice: status %d, problem %q, live config %s, want %d and %s",
				path, resp.code, problem, live(), http.StatusConflict, before)
		}

		write(path, says, want)
	}

	writeTwice(edit+"drain&name=10.0.0.1:1&name=10.0.0.2:1",
		`(?s)etcdrpc drain [^\n]* acme/user 10\.0\.0\.1:1 10\.0\.0\.2:1.*2 of 4 instances`,
		`"instance":"10.0.0.1:1"},{`)
	writeTwice(edit+"undrain&name=10.0.0.2:1", `etcdrpc undrain .* acme/user 10\.0\.0\.2:1`,
		`"instance":"10.0.0.1:1"}]`)
	writeTwice(edit+"split&version=v3&percent=10", "v3=30 v1=180 v2=90", `"weight":180`)
	_, page := b.await(edit+"split&version=v3&percent=20",
		`policy split --revision \d+ .* acme/user v3=60 v1=160 v2=80`)
	otherShell(t, t.TempDir())(pasted.FindString(html.UnescapeString(strings.ReplaceAll(page,
		"</pre>", "\n"))))

	if !strings.Contains(live(), `"weight":160`) {
		t.Errorf("the live config is %s after the command of the page, want the weight 160", live())
	}

	_, page = b.await(edit+"undrain&name=10.0.0.1:1", "Write it")
	sent, _ := b.form(page)
	for what, change := range map[string]func(*http.Request){
		"another site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another name": func(r *http.Request) { r.Host = "evil.example" },
	} {
		resp, _ := b.do(http.MethodPost, "/edit", sent, change)
		if resp.code != http.StatusForbidden && resp.code != http.StatusMisdirectedRequest {
			t.Errorf("a request of %s: status %d, want a refusal", what, resp.code)
		}
	}

	putKey(t, etcd, "_grpc_config/acme/user",
		`{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.1:1","10.0.0.3:1"],"childPolicy":[{"round_robin":{}}]}}]}`)
	resp, page := b.do(http.MethodPost, "/edit", sent, nil)

	now, problem := b.form(page)
	if resp.code != http.StatusConflict ||
		!strings.Contains(problem, "Not written: something has changed") ||
		now.Get("guard") == sent.Get("guard") ||
		!strings.Contains(live(), `"10.0.0.1:1"`) {
		t.Errorf("after a concurrent change: status %d, problem %q, want %d and nothing written",
			resp.code, problem, http.StatusConflict)
	}

	if resp, _ := b.do(http.MethodPost, "/edit", now, nil); resp.code != http.StatusSeeOther ||
		strings.Contains(live(), `"10.0.0.1:1"`) {
		t.Errorf("the new edit: status %d, live config %s, want %d and no drain of 10.0.0.1:1",
			resp.code, live(), http.StatusSeeOther)
	}

	for path, want := range map[string]string{
		edit + "drain":                                      "no instance is chosen",
		edit + "drain&name=nobody":                          "no such instance",
		edit + "remove":                                     "want drain, undrain, split or undo",
		edit + "split&version=v2&percent=101":               "is not a percentage",
		edit + "split&version=v9&percent=1":                 "no instance has the version",
		edit + "drain&name=10.0.0.3:1":                      "",
		"/edit?kind=drain&name=a&key=%00":                   "service key",
		"/edit?kind=undrain&key=acme/order&name=10.0.0.1:1": "no instance is drained",
	} {
		resp, page := b.do(http.MethodGet, path, nil, nil)
		_, problem := b.form(page)
		if !strings.Contains(problem, want) ||
			(want != "") != (resp.code == http.StatusUnprocessableEntity) ||
			strings.Contains(page, "Write it") {
			t.Errorf("%s: status %d, problem %q, want %q", path, resp.code, problem, want)
		}
	}

	if resp, _ := b.do(http.MethodPost, "/edit", url.Values{"key": {strings.Repeat("a", 1<<17)}},
		nil); resp.code != http.StatusBadRequest {
		t.Errorf("a form that is too large: status %d, want %d", resp.code, http.StatusBadRequest)
	}

	kv := etcdserverpb.NewKVClient(etcd.Admin().ActiveConnection())
	server := grpc.NewServer(grpc.UnaryInterceptor(func(
		ctx context.Context,
		in any,
		_ *grpc.UnaryServerInfo,
		_ grpc.UnaryHandler,
	) (any, error) {
		if r, ok := in.(*etcdserverpb.RangeRequest); ok {
			return kv.Range(ctx, r)
		}

		return nil, rpctypes.ErrGRPCTimeout // of a write
	}))

	etcdserverpb.RegisterKVServer(server, &etcdserverpb.UnimplementedKVServer{})
	b = openPages(t, "ui", "--endpoints", serveUntilEnd(t, server), "--command-timeout", "1m")
	_, page = b.await(edit+"undrain&name=10.0.0.3:1", "Write it")
	sent, _ = b.form(page)

	_, page = b.do(http.MethodPost, "/edit", sent, nil)
	if again, problem := b.form(page); !strings.HasPrefix(problem, "Perhaps written: ") ||
		again.Encode() != sent.Encode() {
		t.Errorf("after a write that timed out: problem %q, form %v, want that it is perhaps written, and the same form",
			problem, again)
	}
}

// TestConsole_Trouble checks that pages explain a denied permission and an
// outage of etcd, and that they keep the text of forms.
func TestConsole_Trouble(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret", etcdtest.User{
		Name:        "reader",
		Password:    "secret",
		Permissions: []etcdtest.Permission{etcdtest.ReadOnly("")},
	},
		etcdtest.User{
			Name:        "one",
			Password:    "secret",
			Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/")},
		}))

	putUser(t, etcd, "10.0.0.1:1", "v1")
	putUser(t, etcd, "10.0.0.2:1", "v1")

	if _, page := openPages(t, at(etcd, "ui", "--user", "one:secret")...).await(
		"/service?key=acme/user", "etcd denies permission.* etcdrpc ui .* KEY"); strings.Contains(
		page, "Nothing is registered") ||
		strings.Contains(page, "may be old") {
		t.Errorf("the page says more than that all was denied: %s", page)
	}

	b := openPages(t, at(etcd, "ui", "acme/user", "--user", "one:secret")...)
	if _, page := b.await("/",
		`(?s)_grpc_config/acme/user.* not readable.*10\.0\.0\.1:1.*Shares are not known: .*etcd denies permission`); strings.Contains(
		page, "/edit") ||
		strings.Contains(page, "Services") {
		t.Errorf("the page of the only service that the user may read has forms, or a link to the services: %s", page)
	}

	b.await("/edit?key=acme/order&kind=drain&name=10.0.0.1:1",
		"this console serves only .*acme/user")
	b = openPages(t, at(etcd, "ui", "--user", "reader:secret", "--command-timeout", "1s")...)
	b.await("/", "acme/user")
	_, page := b.await("/edit?key=acme/user&kind=drain&name=10.0.0.1:1", "Write it")
	sent, _ := b.form(page)
	post := func(status int, want string) {
		t.Helper()

		resp, page := b.do(http.MethodPost, "/edit", sent, nil)
		again, problem := b.form(page)
		if resp.code != status ||
			!strings.HasPrefix(problem, "Not written: ") ||
			!strings.Contains(problem, want) ||
			again.Encode() != sent.Encode() {
			t.Errorf("POST /edit: status %d, problem %q, form %v, want %d, %q and the same form",
				resp.code, problem, again, status, want)
		}
	}

	post(http.StatusForbidden, `etcd denies permission to the user "reader"`)
	etcd.Cut()
	post(http.StatusServiceUnavailable, "etcd at")
	b.await("/service?key=acme/user", "(?s)may be old.*10.0.0.2:1")
}

// TestSD checks the responses of sd to Prometheus.
func TestSD(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	etcd.Cut()

	b := openPages(t,
		at(etcd, "sd", "acme/", "--listen", "127.0.0.1:0", "--command-timeout", "1s")...)
	if resp, _ := b.do(
		http.MethodGet, "/sd", nil, nil); resp.code != http.StatusServiceUnavailable {
		t.Errorf("/sd before etcd was read: status %d, want 503", resp.code)
	}

	putKey(t, etcd, "acme/user/10.0.0.7:9000",
		`{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1"}}`)
	putKey(t, etcd, "other/10.0.0.1:1", "10.0.0.1:1")
	etcd.Restore()
	b.await("/sd", `(?s)"10\.0\.0\.7:9000".*"__meta_etcdrpc_version":\s*"v1"`)
	putKey(t, etcd, "acme/user/10.0.0.8:9000", "10.0.0.8:9000")
	putKey(t, etcd, inventory.ConfigPrefix+"acme/user",
		`{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.8:9000"],"childPolicy":[{"round_robin":{}}]}}]}`)
	b.await("/", `(?s)"10\.0\.0\.8:9000".*"__meta_etcdrpc_state":\s*"drained"`)

	// While etcd is away, the last targets are served. Missed changes follow
	// afterwards.
	etcd.Cut()
	putKey(t, etcd, "acme/user/10.0.0.9:9000", "10.0.0.9:9000")

	resp, body := b.do(http.MethodGet, "/sd", nil, nil)
	if resp.header.Get("Content-Type") != "application/json" ||
		!strings.Contains(body, "10.0.0.8") ||
		strings.Contains(body, "10.0.0.9") ||
		strings.Contains(body, "10.0.0.1:1") {
		t.Errorf("/sd while etcd is away: %v, %s, want the last targets", resp, body)
	}

	etcd.Restore()
	b.await("/sd", `"10\.0\.0\.9:9000"`)

	// DNS rebinding: a page of another site whose name resolves to this address
	// is rejected.
	if resp, _ := b.do(http.MethodGet, "/sd", nil, func(r *http.Request) {
		r.Host = "evil.example"
	}); resp.code != http.StatusMisdirectedRequest {
		t.Errorf("a Host header of another site: status %d, want %d", resp.code,
			http.StatusMisdirectedRequest)
	}
}

// TestLocalOnly checks that a listener on loopback requires a Host header that
// names this host.
func TestLocalOnly(t *testing.T) {
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		at, host string
		want     int
	}{
		{"127.0.0.1:9469", "127.0.0.2:9469", http.StatusOK},
		{"[::1]:9469", "Localhost", http.StatusOK},
		{"127.0.0.1:9469", "[::1]", http.StatusOK},
		{"127.0.0.1:9469", "[::ffff:127.0.0.1]:80", http.StatusOK},
		{"[::1]:9469", "127.0.0.1.evil.example", http.StatusMisdirectedRequest},
		{"127.0.0.1:9469", "", http.StatusMisdirectedRequest},
		{"10.0.0.7:9469", "sd.example:9469", http.StatusOK},
		{"[::]:9469", "sd.example:9469", http.StatusOK},
	} {
		request := httptest.NewRequest(http.MethodGet, "/sd", http.NoBody)
		request.Host = tt.host
		answer := httptest.NewRecorder()
		localOnly(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.at)), served).ServeHTTP(
			answer, request)

		if answer.Code != tt.want {
			t.Errorf("Host %q at %s: status %d, want %d", tt.host, tt.at, answer.Code, tt.want)
		}
	}
}
