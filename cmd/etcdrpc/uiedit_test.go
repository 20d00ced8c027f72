package main

import (
	"html"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

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

// propose asks for an edit of a live config, of which the form has a revision that is to be there.
func (s *served) propose(key, kind string, form url.Values, params ...string) (status int, page string) {
	s.t.Helper()
	all := url.Values{"revision": {s.revision(key)}}
	maps.Copy(all, form)
	return s.post("/propose", all, append(params, "key", key, "kind", kind)...)
}

// apply presses the button of a page that proposes an edit.
func (s *served) apply(key, page string, want int) string {
	s.t.Helper()
	status, answer := s.post("/apply", hiddenFields(s.t, page, "/apply?"), "key", key)
	if status != want {
		s.t.Fatalf("status %d, not %d:\n%s", status, want, answer)
	}
	return answer
}

// wrote fails unless etcd has a live config.
func (s *served) wrote(key, want string) {
	s.t.Helper()
	if got := liveConfigAt(s.t, s.etcd, key); got != want {
		s.t.Errorf("etcd has %s, not %s", got, want)
	}
}

// revision returns the revision of a live config as etcd has it, 0 if there is none.
func (s *served) revision(key string) string {
	s.t.Helper()
	resp, err := s.etcd.Admin().Get(s.t.Context(), survey.ConfigPrefix+key)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "0"
	}
	return strconv.FormatInt(resp.Kvs[0].ModRevision, 10)
}

const weighted = `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"etcd_weighted":{}}],"split":[{"match":{"version":"v2"},"weight":10},{"match":{"version":"v1"},"weight":90}]}}]}`

func TestConsoleEdits(t *testing.T) {
	const key = "acme/user"
	s := newShop(t, console.Options{})
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
			want:  []string{"Drain 10.0.0.8:9000", "replaces all of load_balancing in the proto file", "is drained"},
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
			s := s.in(t)
			deleteKey(t, s.etcd, survey.ConfigPrefix+key)
			if c.config != "" {
				putConfig(t, s.etcd, key, c.config)
			}
			status, page := s.propose(key, c.kind, c.form, c.params...)
			if status != http.StatusOK {
				t.Fatalf("status %d:\n%s", status, page)
			}
			s.shows(page, c.want...)
			s.wrote(key, c.config) // before it is confirmed
			for range 2 {          // who presses the button twice is not told that it was somebody else, and sees what was written
				s.apply(key, page, http.StatusSeeOther)
				s.wrote(key, c.wrote)
			}
			_, page = s.propose(key, c.kind, c.form, c.params...)
			s.shows(page, "there is nothing to write")
		})
	}
	// The form of the page itself, by which a drain is shown at once.
	deleteKey(t, s.etcd, survey.ConfigPrefix+key)
	page := s.settled(key, "There is none")
	for _, name := range liveconfig.PolicyNames() {
		s.shows(page, "<option>"+name+"</option>")
	}
	_, page = s.post("/propose", hiddenFields(t, page, "/propose?"), "key", key, "kind", "drain", "instance", "10.0.0.8:9000")
	_, page = s.post("/propose", url.Values{"revision": hiddenFields(t, page, "/apply?")["revision"], "reason": {"new disk, ada"}}, "key", key, "kind", "drain", "instance", "10.0.0.8:9000")
	form := hiddenFields(t, page, "/apply?")
	form.Set("reason", "new disk, ada")
	s.shows(page, `name="reason" maxlength="300" value="new disk, ada"`)
	if status, _ := s.post("/apply", form, "key", key, "kind", "drain", "instance", "10.0.0.8:9000"); status != http.StatusSeeOther {
		t.Errorf("status %d", status)
	}
	_, page = s.get("/service", "key", key)
	s.shows(page, `aria-label="undrain 10.0.0.8:9000"`, ": new disk, ada")
}

// What the commands refuse is refused here, with the same reason, and what was typed is kept. A form that was never seen
// writes no more than one that was.
func TestConsoleRefuses(t *testing.T) {
	s := newShop(t, console.Options{})
	reads := serveConsole(t, s.etcd, console.Options{ReadOnly: true})
	const good, typo = `{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"loadBalancingConfig":[{"round_robbin":{}}]}`
	for _, c := range []struct {
		key, kind, instance string
		form                url.Values
		want                []string
	}{
		{"acme/order", "drain", "10.0.0.7:9001", nil, []string{"clients would not follow that"}},
		{"acme/user", "drain", "10.0.0.77:9000", nil, []string{"no such instance is registered"}},
		{"acme/user", "policy", "", url.Values{"config": {typo}}, []string{"clients would not go by it", "round_robbin&#34;:{}", "<textarea"}},
		{"acme/user", "policy", "", url.Values{"config": {`mine: "typed"`}}, []string{"clients would not go by it", "mine: &#34;typed&#34;"}},
		{"acme/user", "policy", "", url.Values{"config": {""}}, []string{"is empty"}},
		{"acme/order", "policy", "", url.Values{"config": {`{"loadBalancingConfig":[{"etcd":{"drain":["10.0.0.7:9001"]}}]}`}}, []string{"clients would not follow that"}},
		{"acme/user", "policy", "", url.Values{"config": {good}, "revision": {"x"}}, nil},
		{"acme/user", "policy", "", url.Values{"config": {good}, "revision": nil}, nil},
		{"acme/user", "policy", "", url.Values{"config": {good}, "revision": {"-1"}}, []string{"which revision"}},
		{"acme/user", "split", "", url.Values{"group": {`{}`}, "weight": {""}}, []string{"is not a share"}},
		{"../x", "policy", "", url.Values{"config": {`{}`}}, []string{"service key"}},
		{"acme/user", "split", "", url.Values{"group": {`{}`}, "weight": {"1", "2"}}, []string{"not as many weights"}},
		{"acme/user", "wish", "", url.Values{"config": {good}}, []string{"is not an edit"}},
	} {
		form := url.Values{"revision": {"0"}, "kind": {c.kind}, "instance": {c.instance}}
		maps.Copy(form, c.form)
		for _, path := range []string{"/propose", "/apply"} {
			status, page := s.post(path, form, "key", c.key, "kind", c.kind, "instance", c.instance)
			if status != http.StatusUnprocessableEntity && status != http.StatusBadRequest {
				t.Errorf("%s of %+v: status %d", path, c, status)
			}
			if path == "/propose" {
				s.shows(page, c.want...)
			}
			if status, _ := reads.post(path, form, "key", c.key, "kind", c.kind); status != http.StatusForbidden {
				t.Errorf("%s of %+v, read only: status %d", path, c, status)
			}
		}
	}
	if _, page := reads.get("/service", "key", "acme/user"); strings.Contains(page, "/propose") || strings.Contains(page, "This would divide") {
		t.Errorf("the page of a console that only reads has what writes")
	}
	s.wrote("acme/user", "")
}

// Where no live config says how to balance, the operator does, and says that the proto file has no routes.
func TestConsoleBegins(t *testing.T) {
	const key = "acme/user"
	s := newShop(t, console.Options{})
	putKey(t, s.etcd, key+"/10.0.0.10:9000", `{"Addr":"10.0.0.10:9000","Metadata":{"lane":"pr-7"}}`)
	status, page := s.propose(key, "drain", nil, "instance", "10.0.0.8:9000")
	if status != http.StatusUnprocessableEntity || !strings.Contains(page, "has no routes") {
		t.Fatalf("status %d:\n%s", status, page)
	}
	form := hiddenFields(t, page, "/propose?")
	form.Set("child", "ring_hash")
	form.Set("noroutes", "yes")
	_, page = s.propose(key, "drain", form, "instance", "10.0.0.8:9000")
	s.apply(key, page, http.StatusSeeOther)
	s.wrote(key, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}],"drain":["10.0.0.8:9000"]}}]}`)

	// So does who writes one, or undoes its removal.
	const text = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	for _, kind := range []string{"policy", "undo"} {
		deleteKey(t, s.etcd, survey.ConfigPrefix+key)
		status, page = s.propose(key, kind, url.Values{"config": {text}})
		if status != http.StatusUnprocessableEntity || !strings.Contains(page, "has no routes") {
			t.Fatalf("%s: status %d:\n%s", kind, status, page)
		}
		form = hiddenFields(t, page, "/propose?")
		form.Set("noroutes", "yes")
		_, page = s.propose(key, kind, form)
		s.apply(key, page, http.StatusSeeOther)
	}
	s.wrote(key, text)

	// A leader that is drained resigns.
	putKey(t, s.etcd, "_grpc_leader/"+key+"//a", "10.0.0.7:9000", renewed(t, s.etcd))
	putKey(t, s.etcd, "_grpc_leader/"+key+"//b", "10.0.0.9:9000", renewed(t, s.etcd))
	_, page = s.propose(key, "drain", nil, "instance", "10.0.0.7:9000")
	s.shows(page, "10.0.0.7:9000 leads acme/user. It resigns")
}

// A token that an editor ends with a line feed is the text before it.
func TestConsoleToken(t *testing.T) {
	file := tempFile(t, "token", []byte("a token that is long\n"))
	if token, made, err := (&ui{tokenFile: file}).token(&net.TCPAddr{}); token != "a token that is long" || made || err != nil {
		t.Errorf("%q, %t, %v", token, made, err)
	}
}

// Of two operators who edit at once, the second is told, sees what is there now, and loses nothing.
func TestConsoleConflict(t *testing.T) {
	const key = "acme/user"
	s := newShop(t, console.Options{})
	mine, theirs := `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`, `{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":7}}]}`
	old := url.Values{"revision": {"0"}, "config": {mine}}
	_, page := s.propose(key, "policy", old)
	putConfig(t, s.etcd, key, theirs)
	page = s.apply(key, page, http.StatusConflict)
	s.shows(page, "Someone else has changed", "choiceCount&#34;: 7", "shuffleAddressList", "Write mine over it")
	s.wrote(key, theirs)
	// A form that shows an old revision is told so before anything is confirmed.
	_, again := s.propose(key, "policy", old)
	s.shows(again, "Someone else has changed")
	s.apply(key, page, http.StatusSeeOther)
	s.wrote(key, mine)

	// Of two who drain at once, the second drains theirs beside the first one's.
	deleteKey(t, s.etcd, survey.ConfigPrefix+key)
	child := url.Values{"child": {"least_request"}}
	_, one := s.propose(key, "drain", child, "instance", "10.0.0.7:9000")
	_, two := s.propose(key, "drain", child, "instance", "10.0.0.8:9000")
	s.apply(key, one, http.StatusSeeOther)
	page = s.apply(key, two, http.StatusConflict)
	s.shows(page, "Someone else has changed", `<h1 class="key">Drain 10.0.0.8:9000</h1>`, `<button class="main">Write it</button>`)
	s.apply(key, page, http.StatusSeeOther)
	both := `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"least_request_experimental":{}}],"drain":["10.0.0.7:9000","10.0.0.8:9000"]}}]}`
	s.wrote(key, both)

	// Who undoes a removal writes what the page has shown, whatever has come and gone meanwhile.
	deleteKey(t, s.etcd, survey.ConfigPrefix+key)
	_, page = s.propose(key, "undo", nil)
	putConfig(t, s.etcd, key, theirs)
	deleteKey(t, s.etcd, survey.ConfigPrefix+key)
	s.apply(key, page, http.StatusSeeOther)
	s.wrote(key, both)

	// What was fine when it was proposed is refused if it is not any more when the button is pressed.
	putKey(t, s.etcd, key+"/10.0.0.10:9000", "10.0.0.10:9000")
	_, page = s.propose(key, "drain", nil, "instance", "10.0.0.10:9000")
	deleteKey(t, s.etcd, key+"/10.0.0.9:9000")
	s.shows(s.apply(key, page, http.StatusUnprocessableEntity), "clients would not follow that")
	s.wrote(key, both)
}

// Who removes the live config of a service that has gone is told that it is removed, and led to what became of it.
func TestConsoleRemovesOrphan(t *testing.T) {
	t.Parallel()
	const key = "acme/gone"
	etcd := etcdtest.Start(t)
	putConfig(t, etcd, key, weighted)
	s := serveConsole(t, etcd, console.Options{})
	_, page := s.propose(key, "remove", nil)
	_, written, _ := strings.Cut(s.apply(key, page, http.StatusSeeOther), "written=")
	if status, page := s.get("/service", "key", key, "written", written); status != http.StatusOK || !strings.Contains(page, "The live config is removed.") {
		t.Errorf("status %d:\n%s", status, page)
	}
	// Undone, it is there again; undone once more, it is not.
	_, page = s.get("/service", "key", key, "written", written)
	_, page = s.propose(key, "undo", hiddenFields(t, page, "/propose?"))
	s.apply(key, page, http.StatusSeeOther)
	s.wrote(key, weighted)
	_, page = s.propose(key, "undo", nil)
	s.apply(key, page, http.StatusSeeOther)
	s.wrote(key, "")
	if status, page := s.get("/service", "key", key); status != http.StatusNotFound || !strings.Contains(page, `href="/history?key=acme%2Fgone"`) {
		t.Errorf("status %d:\n%s", status, page)
	}
}

// A user with few rights sees what they allow, and why the rest is refused. Who may not read live configs is not told that
// there are none.
func TestConsoleRights(t *testing.T) {
	t.Parallel()
	const key = "acme/user"
	user := func(name string, more ...etcdtest.Permission) etcdtest.User {
		return etcdtest.User{Name: name, Password: "secret", Permissions: append(more, etcdtest.ReadOnly(key+"/"))}
	}
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret", user("reader", etcdtest.ReadOnly(survey.ConfigPrefix+key)), user("closed")))
	shop(t, etcd)
	as := func(name string) *served {
		return serveConsole(t, etcd, console.Options{}, func(s *settings) { s.user, s.password = name, "secret" })
	}
	s := as("reader")
	_, page := s.get("/")
	s.shows(page, key, "may read this part only")
	s.hides(page, "acme/order")
	putKey(t, etcd, key+"/10.0.0.10:9000", "10.0.0.10:9000")
	s.settled(key, "10.0.0.10:9000")
	_, page = s.propose(key, "policy", url.Values{"config": {`{"loadBalancingConfig":[{"round_robin":{}}]}`}})
	s.shows(html.UnescapeString(s.apply(key, page, http.StatusForbidden)), `etcd denies permission to the user "reader"`)

	putConfig(t, etcd, key, `{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"round_robin":{}}],"drain":["10.0.0.8:9000"]}}]}`)
	s = as("closed")
	_, page = s.get("/service", "key", key)
	s.hides(page, "no live config", "There is none", "Calls are not split", "/propose")
	s.shows(page, `live config <span class="quiet">may not be read</span>`, "so drained instances are shown as registered", "whether there is one is not known")
	_, page = s.get("/")
	s.shows(page, "may not be read")
	if status, page := s.get("/history", "key", key); status != http.StatusOK || !strings.Contains(html.UnescapeString(page), `etcd denies permission to the user "closed"`) {
		t.Errorf("status %d:\n%s", status, page)
	}
}
