package main

import (
	"html"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// shop fills etcd with a service of three instances in two versions, and one of another layout.
func shop(t *testing.T, etcd *etcdtest.Cluster) {
	t.Helper()
	granted, err := etcd.Admin().Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range states["healthy"] {
		if _, err := etcd.Admin().Put(t.Context(), key, value, clientv3.WithLease(granted.ID)); err != nil {
			t.Fatal(err)
		}
	}
}

func putConfig(t *testing.T, etcd *etcdtest.Cluster, key, config string) {
	t.Helper()
	if _, err := etcd.Admin().Put(t.Context(), survey.ConfigPrefix+key, config); err != nil {
		t.Fatal(err)
	}
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

var hidden = regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`)

// hiddenFields returns the hidden fields of the form with an action, and what that of a form that writes says besides.
func hiddenFields(t *testing.T, page, action string) url.Values {
	t.Helper()
	_, rest, ok := strings.Cut(page, `action="`+action)
	form, _, closed := strings.Cut(rest, "</form>")
	if !ok || !closed {
		t.Fatalf("no form with the action %s in:\n%s", action, page)
	}
	fields := url.Values{}
	if action == "/apply?" {
		query, _, _ := strings.Cut(form, `"`)
		var err error
		if fields, err = url.ParseQuery(html.UnescapeString(query)); err != nil {
			t.Fatal(err)
		}
	}
	for _, match := range hidden.FindAllStringSubmatch(form, -1) {
		fields.Add(match[1], html.UnescapeString(match[2]))
	}
	return fields
}

// settled waits until the page of a service has a text.
func (s *served) settled(key, want string) string {
	s.t.Helper()
	events := s.listen(s.t.Context(), "/events?key="+url.QueryEscape(key))
	for {
		await(s.t, events, "changed")
		if _, page := s.get("/service", "key", key); strings.Contains(page, want) {
			return page
		}
	}
}

const weighted = `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"split":[{"match":{"version":"v2"},"weight":10},{"match":{"version":"v1"},"weight":90}]}}]}`

func TestConsoleEdits(t *testing.T) {
	const key = "acme/user"
	for name, c := range map[string]struct {
		config string // before
		kind   string
		params []string
		form   url.Values
		want   []string // on the confirm page
		wrote  string   // into etcd
	}{
		"drain": {
			kind: "drain", params: []string{"instance", "10.0.0.8:9000"},
			want:  []string{"drain 10.0.0.8:9000", "takes the place of all that the proto file says", "is drained"},
			wrote: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["10.0.0.8:9000"]}}]}`,
		},
		"undrain": {
			config: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["10.0.0.8:9000"]}}]}`,
			kind:   "undrain", params: []string{"instance", "10.0.0.8:9000"},
			want:  []string{"Nothing is drained any more"},
			wrote: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}]}}]}`,
		},
		"split": {
			config: weighted,
			kind:   "split", form: url.Values{"group": {`{"version":"v2"}`, `{"version":"v1"}`}, "weight": {"40", "60"}},
			want:  []string{"40.0", "30.0", "in split[0], of weight 40"},
			wrote: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"split":[{"match":{"version":"v2"},"weight":40},{"match":{"version":"v1"},"weight":60}]}}]}`,
		},
		"a group without instances": {
			config: weighted,
			kind:   "split", form: url.Values{"group": {`{"version":"v2"}`, `{"version":"v9"}`}, "weight": {"40", "60"}},
			want:  []string{"split[1] has no instance here: the other groups have its share", "2 of the instances match no group of the split"},
			wrote: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"split":[{"match":{"version":"v2"},"weight":40},{"match":{"version":"v9"},"weight":60}]}}]}`,
		},
		"begin a split": {
			kind: "split", form: url.Values{"group": {`{"version":"v1"}`, `{"version":"v2"}`}, "weight": {"90", "10"}, "child": {"least_request"}},
			want:  []string{"45.0", "10.0", "least_request_experimental"},
			wrote: `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"least_request_experimental":{}}],"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"v2"},"weight":10}]}}]}`,
		},
		"policy": {
			kind: "policy", form: url.Values{"config": {"{\r\n  \"loadBalancingConfig\": [{\"round_robin\": {}}]\r\n}"}},
			want:  []string{"33.3"},
			wrote: "{\n  \"loadBalancingConfig\": [{\"round_robin\": {}}]\n}",
		},
		"remove": {
			config: weighted, kind: "remove",
			want: []string{"Remove the live config", "go by what their code was generated with"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			etcd := etcdtest.Start(t)
			shop(t, etcd)
			if c.config != "" {
				putConfig(t, etcd, key, c.config)
			}
			s := serveConsole(t, etcd, console.Options{})
			_, page := s.get("/service", "key", key)
			form := hiddenFields(t, page, "/propose?")
			form.Del("group")
			for name, values := range c.form {
				form[name] = values
			}
			status, page := s.post("/propose", form, append(c.params, "key", key, "kind", c.kind)...)
			if status != http.StatusOK {
				t.Fatalf("status %d:\n%s", status, page)
			}
			for _, want := range c.want {
				if !strings.Contains(page, want) {
					t.Errorf("the confirm page does not have %q:\n%s", want, page)
				}
			}
			if got := liveConfigAt(t, etcd, key); got != c.config {
				t.Fatalf("before it was confirmed, etcd has %s", got)
			}
			status, page = s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key)
			if status != http.StatusSeeOther {
				t.Fatalf("status %d:\n%s", status, page)
			}
			if got := liveConfigAt(t, etcd, key); got != c.wrote {
				t.Errorf("etcd has %s, not %s", got, c.wrote)
			}
		})
	}
}

// What the commands refuse is refused here, with the same reason, and what was typed is kept.
func TestConsoleRefuses(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	for name, c := range map[string]struct {
		params []string
		form   url.Values
		want   []string
	}{
		"the last one": {
			[]string{"key", "acme/order", "kind", "drain", "instance", "10.0.0.7:9001"}, nil,
			[]string{"the last one that is not drained"},
		},
		"no such instance": {
			[]string{"key", "acme/user", "kind", "drain", "instance", "10.0.0.77:9000"}, nil,
			[]string{"no such instance is registered"},
		},
		"a typo": {
			[]string{"key", "acme/user", "kind", "policy"}, url.Values{"config": {`{"loadBalancingConfig":[{"round_robbin":{}}]}`}},
			[]string{"clients would not go by it", "round_robbin&#34;:{}", "<textarea"},
		},
		"not JSON": {
			[]string{"key", "acme/user", "kind", "policy"}, url.Values{"config": {`mine: "typed"`}},
			[]string{"clients would not go by it", "mine: &#34;typed&#34;"},
		},
		"no key": {
			[]string{"key", "../x", "kind", "policy"}, url.Values{"config": {`{}`}},
			[]string{"service key"},
		},
		"not as many weights": {
			[]string{"key", "acme/user", "kind", "split"}, url.Values{"group": {`{}`}, "weight": {"1", "2"}},
			[]string{"not as many weights"},
		},
		"no edit": {
			[]string{"key", "acme/user", "kind", "wish"}, nil,
			[]string{"is no edit"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{"revision": {"0"}}
			for name, values := range c.form {
				form[name] = values
			}
			status, page := s.post("/propose", form, c.params...)
			if status != http.StatusUnprocessableEntity {
				t.Errorf("status %d", status)
			}
			for _, want := range c.want {
				if !strings.Contains(page, want) {
					t.Errorf("the page does not have %q:\n%s", want, page)
				}
			}
		})
	}
}

// Where no live config says how to balance, the operator does, and says that the proto file has no routes.
func TestConsoleBegins(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	if _, err := etcd.Admin().Put(t.Context(), key+"/10.0.0.10:9000", `{"Addr":"10.0.0.10:9000","Metadata":{"lane":"pr-7"}}`); err != nil {
		t.Fatal(err)
	}
	s := serveConsole(t, etcd, console.Options{})
	edit := []string{"key", key, "kind", "drain", "instance", "10.0.0.8:9000"}
	status, page := s.post("/propose", url.Values{"revision": {"0"}}, edit...)
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, "has no routes") {
		t.Fatalf("status %d:\n%s", status, page)
	}
	form := hiddenFields(t, page, "/propose?")
	form.Set("child", "ring_hash")
	form.Set("noroutes", "yes")
	_, page = s.post("/propose", form, edit...)
	if status, page := s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key); status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", status, page)
	}
	if got := liveConfigAt(t, etcd, key); !strings.Contains(got, "ring_hash_experimental") || !strings.Contains(got, `"drain":["10.0.0.8:9000"]`) {
		t.Errorf("etcd has %s", got)
	}
}

// The policies that the console offers are those of the commands.
func TestConsolePolicies(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.get("/service", "key", "acme/user")
	for _, name := range liveconfig.PolicyNames() {
		if !strings.Contains(page, "<option>"+name+"</option>") {
			t.Errorf("the page does not offer %s", name)
		}
	}
}

// A token is asked for beyond this host, and is long enough.
func TestConsoleToken(t *testing.T) {
	file := func(text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		ui    ui
		at    string
		token string // "" none, "*" any
		made  bool
		err   string
	}{
		"this host":       {at: "127.0.0.1:80"},
		"this host, IPv6": {at: "[::1]:80"},
		"all hosts":       {at: "0.0.0.0:80", token: "*", made: true},
		"all hosts, IPv6": {at: "[::]:80", token: "*", made: true},
		"a file":          {ui: ui{tokenFile: file("a token that is long\n")}, at: "127.0.0.1:80", token: "a token that is long"},
		"a short token":   {ui: ui{tokenFile: file("short\n")}, at: "127.0.0.1:80", err: "has 5 bytes: want at least 16"},
		"no such file":    {ui: ui{tokenFile: filepath.Join(t.TempDir(), "none")}, at: "127.0.0.1:80", err: "--token-file"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.at)
		if err != nil {
			t.Fatal(err)
		}
		token, made, err := c.ui.token(addr)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || made != c.made || c.token != "*" && token != c.token || c.token == "*" && len(token) < leastToken {
			t.Errorf("%s: %q, %t, %v", name, token, made, err)
		}
	}
}

// Of two operators who edit at once, the second is told, sees what is there now, and loses nothing.
func TestConsoleConflict(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	mine := `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`
	_, page := s.post("/propose", url.Values{"revision": {"0"}, "config": {mine}}, "key", key, "kind", "policy")
	form := hiddenFields(t, page, "/apply?")

	theirs := `{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":7}}]}`
	putConfig(t, etcd, key, theirs)
	status, page := s.post("/apply", form, "key", key)
	if status != http.StatusConflict {
		t.Fatalf("status %d:\n%s", status, page)
	}
	for _, want := range []string{"Someone else has changed", "choiceCount&#34;: 7", "shuffleAddressList", "Write mine over it"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
	if got := liveConfigAt(t, etcd, key); got != theirs {
		t.Fatalf("etcd has %s", got)
	}
	// A form that shows an old revision is told so before anything is confirmed.
	if _, page := s.post("/propose", url.Values{"revision": {"0"}, "config": {mine}}, "key", key, "kind", "policy"); !strings.Contains(page, "Someone else has changed") {
		t.Errorf("an edit of an old revision is not told so:\n%s", page)
	}
	if status, page = s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key); status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", status, page)
	}
	if got := liveConfigAt(t, etcd, key); got != mine {
		t.Errorf("etcd has %s", got)
	}
}

// Who presses the button twice is not told that it was somebody else, and sees at once what was written.
func TestConsoleTwice(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.get("/service", "key", key)
	_, page = s.post("/propose", hiddenFields(t, page, "/propose?"), "key", key, "kind", "drain", "instance", "10.0.0.8:9000")
	form := hiddenFields(t, page, "/apply?")
	for range 2 {
		status, page := s.post("/apply", form, "key", key)
		if status != http.StatusSeeOther || !strings.Contains(page, "written=") {
			t.Fatalf("status %d:\n%s", status, page)
		}
		if _, page := s.get("/service", "key", key); !strings.Contains(page, `aria-label="undrain 10.0.0.8:9000"`) {
			t.Errorf("the page does not show what was written:\n%s", page)
		}
	}
}

// Whatever is pressed twice was done once, and nobody else is blamed for it.
func TestConsoleDone(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	for kind, config := range map[string]string{
		"undrain": `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["10.0.0.8:9000"]}}]}`,
		"remove":  weighted,
	} {
		putConfig(t, etcd, key, config)
		revision := url.Values{"revision": {s.revision(key)}}
		_, page := s.post("/propose", revision, "key", key, "kind", kind, "instance", "10.0.0.8:9000")
		form := hiddenFields(t, page, "/apply?")
		for range 2 {
			if status, page := s.post("/apply", form, "key", key); status != http.StatusSeeOther {
				t.Errorf("%s: status %d:\n%s", kind, status, page)
			}
		}
		if _, page := s.post("/propose", revision, "key", key, "kind", kind, "instance", "10.0.0.8:9000"); !strings.Contains(page, "there is nothing to write") {
			t.Errorf("%s again:\n%s", kind, page)
		}
	}
}

// revision returns the revision of a live config as etcd has it.
func (s *served) revision(key string) string {
	s.t.Helper()
	resp, err := s.etcd.Admin().Get(s.t.Context(), survey.ConfigPrefix+key)
	if err != nil || len(resp.Kvs) == 0 {
		s.t.Fatal(resp, err)
	}
	return strconv.FormatInt(resp.Kvs[0].ModRevision, 10)
}

// Of two operators who drain two instances at once, the second drains theirs beside the first one's.
func TestConsoleTwoDrains(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	drain := func(instance string) (page string) {
		t.Helper()
		_, page = s.post("/propose", url.Values{"revision": {"0"}, "child": {"least_request"}}, "key", key, "kind", "drain", "instance", instance)
		return page
	}
	one, two := drain("10.0.0.7:9000"), drain("10.0.0.8:9000")
	if status, page := s.post("/apply", hiddenFields(t, one, "/apply?"), "key", key); status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", status, page)
	}
	status, page := s.post("/apply", hiddenFields(t, two, "/apply?"), "key", key)
	if status != http.StatusConflict {
		t.Fatalf("status %d:\n%s", status, page)
	}
	for _, want := range []string{"Someone else has changed", `<h1 class="key">drain 10.0.0.8:9000</h1>`, `<button class="main">Write it</button>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
	if status, page = s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key); status != http.StatusSeeOther {
		t.Fatalf("status %d:\n%s", status, page)
	}
	want := `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"least_request_experimental":{}}],"drain":["10.0.0.7:9000","10.0.0.8:9000"]}}]}`
	if got := liveConfigAt(t, etcd, key); got != want {
		t.Errorf("etcd has %s, not %s", got, want)
	}
}

// What was fine when it was proposed is refused if it is not any more when the button is pressed.
func TestConsoleDrainsLast(t *testing.T) {
	const key = "acme/user"
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.post("/propose", url.Values{"revision": {"0"}}, "key", key, "kind", "drain", "instance", "10.0.0.8:9000")
	for _, instance := range []string{"10.0.0.7:9000", "10.0.0.9:9000"} {
		if _, err := etcd.Admin().Delete(t.Context(), key+"/"+instance); err != nil {
			t.Fatal(err)
		}
	}
	status, page := s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key)
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, "the last one that is not drained") {
		t.Errorf("status %d:\n%s", status, page)
	}
	if got := liveConfigAt(t, etcd, key); got != "" {
		t.Errorf("etcd has %s", got)
	}
}

// A form that was never seen cannot write past the revision or the checks.
func TestConsoleApplyChecks(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{})
	for _, form := range []url.Values{
		{"kind": {"policy"}, "revision": {"0"}, "config": {`{"loadBalancingConfig":[{"nope":{}}]}`}},
		{"kind": {"policy"}, "revision": {"0"}, "config": {""}},
		{"kind": {"policy"}, "revision": {"x"}, "config": {`{}`}},
		{"kind": {"policy"}, "config": {`{}`}},
		{"kind": {"wish"}, "revision": {"0"}, "config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}},
		{"kind": {"drain"}, "revision": {"0"}, "instance": {"10.0.0.77:9000"}},
	} {
		if status, page := s.post("/apply", form, "key", "acme/user"); status != http.StatusUnprocessableEntity && status != http.StatusBadRequest {
			t.Errorf("%v: status %d:\n%s", form, status, page)
		}
	}
	if got := liveConfigAt(t, etcd, "acme/user"); got != "" {
		t.Errorf("etcd has %s", got)
	}
}

func TestConsoleReadOnly(t *testing.T) {
	etcd := etcdtest.Start(t)
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{ReadOnly: true})
	_, page := s.get("/service", "key", "acme/user")
	if strings.Contains(page, "/propose") {
		t.Errorf("the page has forms that write")
	}
	for _, path := range []string{"/propose", "/apply"} {
		status, _ := s.post(path, url.Values{"revision": {"0"}, "config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}}, "key", "acme/user", "kind", "policy")
		if status != http.StatusForbidden {
			t.Errorf("%s: status %d", path, status)
		}
	}
	if got := liveConfigAt(t, etcd, "acme/user"); got != "" {
		t.Errorf("etcd has %s", got)
	}
}

// Who removes the live config of a service that has gone is told that it is removed, and led to what became of it.
func TestConsoleRemovesOrphan(t *testing.T) {
	const key = "acme/gone"
	etcd := etcdtest.Start(t)
	putConfig(t, etcd, key, weighted)
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.get("/service", "key", key)
	_, page = s.post("/propose", hiddenFields(t, page, "/propose?"), "key", key, "kind", "remove")
	status, page := s.post("/apply", hiddenFields(t, page, "/apply?"), "key", key)
	_, written, ok := strings.Cut(page, "written=")
	if status != http.StatusSeeOther || !ok {
		t.Fatalf("status %d:\n%s", status, page)
	}
	if status, page = s.get("/service", "key", key, "written", written); status != http.StatusOK || !strings.Contains(page, "The live config is removed.") {
		t.Errorf("status %d:\n%s", status, page)
	}
	if status, page := s.get("/service", "key", key); status != http.StatusNotFound || !strings.Contains(page, `href="/history?key=acme%2Fgone"`) {
		t.Errorf("status %d:\n%s", status, page)
	}
}

// A user with few rights sees what they allow, and why the rest is refused.
func TestConsoleRights(t *testing.T) {
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret",
		etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/"), etcdtest.ReadOnly(survey.ConfigPrefix + "acme/user")}}))
	shop(t, etcd)
	s := serveConsole(t, etcd, console.Options{}, func(s *settings) { s.user, s.password = "reader", "secret" })
	_, page := s.get("/")
	for _, want := range []string{"acme/user", "may read this part only"} {
		if !strings.Contains(page, want) {
			t.Errorf("the overview does not have %q", want)
		}
	}
	if strings.Contains(page, "acme/order") {
		t.Error("the overview has what the user may not read")
	}
	if _, err := etcd.Admin().Put(t.Context(), "acme/user/10.0.0.10:9000", "10.0.0.10:9000"); err != nil {
		t.Fatal(err)
	}
	s.settled("acme/user", "10.0.0.10:9000")
	form := url.Values{"revision": {"0"}, "config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}}
	_, page = s.post("/propose", form, "key", "acme/user", "kind", "policy")
	status, page := s.post("/apply", hiddenFields(t, page, "/apply?"), "key", "acme/user")
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, "etcd denies permission to the user &#34;reader&#34;") && !strings.Contains(page, `etcd denies permission to the user "reader"`) {
		t.Errorf("status %d:\n%s", status, page)
	}
}

// Who may not read live configs is not told that there are none.
func TestConsoleClosed(t *testing.T) {
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret",
		etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/")}}))
	shop(t, etcd)
	putConfig(t, etcd, "acme/user", `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["10.0.0.8:9000"]}}]}`)
	s := serveConsole(t, etcd, console.Options{}, func(s *settings) { s.user, s.password = "reader", "secret" })
	_, page := s.get("/service", "key", "acme/user")
	for _, lie := range []string{"no live config", "There is none", "Calls are not split", "/propose"} {
		if strings.Contains(page, lie) {
			t.Errorf("the page has %q:\n%s", lie, page)
		}
	}
	for _, want := range []string{`live config <span class="quiet">may not be read</span>`, "so drained instances are shown as registered", "whether there is one is not known"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q:\n%s", want, page)
		}
	}
	if _, page := s.get("/"); !strings.Contains(page, "may not be read") {
		t.Errorf("the overview is:\n%s", page)
	}
}
