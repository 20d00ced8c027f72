package console

import (
	"context"
	"errors"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// fixed is a backend that does not change, and is asked for nothing else than this.
type fixed struct {
	Backend
	fleet Fleet
}

func (f *fixed) Fleet() *Fleet                { return &f.fleet }
func (*fixed) Findings(string, bool) Findings { return Findings{} }

func (*fixed) Propose(_ context.Context, asked steer.Asked) (*steer.Edit, error) {
	return &steer.Edit{Asked: asked, Service: new(survey.Service)}, nil
}

func newConsole(t *testing.T, o Options) *Console {
	t.Helper()
	if o.Log = log.New(t.Output(), "", 0); o.Backend == nil {
		o.Backend = &fixed{fleet: Fleet{Services: []Summary{{Key: "acme/user"}}}}
	}
	return New(o)
}

// ask sends a request, with headers given as names and values, to 127.0.0.1 unless one of them is Host.
func ask(c *Console, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

// leasing is a backend of two instances, of which the second is expiring.
type leasing struct {
	fixed
	asked [][]int64
	err   error
}

func (*leasing) Service(key string) *Service {
	return &Service{Summary: Summary{Key: key}, Instances: []Instance{{ID: "well", State: survey.Registered, Lease: 1}, {ID: "late", State: survey.Registered, Lease: 2}}}
}

func (l *leasing) Leases(_ context.Context, ids []int64) (map[int64]survey.LeaseTime, error) {
	l.asked = append(l.asked, ids)
	return map[int64]survey.LeaseTime{1: {Left: 14, Granted: 15}, 2: {Left: 3, Granted: 15}}, l.err
}

// A page asks for each lease once, and before it filters by what these say.
func TestPageLeases(t *testing.T) {
	for _, c := range []struct {
		query string
		err   error
		asked [][]int64
		shown string
	}{
		{"", nil, [][]int64{{1, 2}}, "well late"},
		{"late", nil, [][]int64{{2}}, "late"},
		{"expiring", nil, [][]int64{{1, 2}}, "late"},
		{"registered", nil, [][]int64{{1, 2}}, "well"},
		{"registered", errors.New("etcd is away"), [][]int64{{1, 2}}, "well"},
	} {
		b := &leasing{err: c.err}
		w := ask(newConsole(t, Options{Loopback: true, Backend: b}), http.MethodGet, "/service?key=acme/user&q="+c.query, "")
		var shown []string
		for _, id := range []string{"well", "late"} {
			if strings.Contains(w.Body.String(), `<th scope="row">`+id) {
				shown = append(shown, id)
			}
		}
		if got := strings.Join(shown, " "); got != c.shown || !reflect.DeepEqual(b.asked, c.asked) {
			t.Errorf("%q: it shows %q and asks for %v, not %+v", c.query, got, b.asked, c)
		}
		if c.err != nil && !strings.Contains(w.Body.String(), c.err.Error()) {
			t.Errorf("the page does not say that %v", c.err)
		}
	}
}

// Which names are whose, ownname's tests tell.
func TestHost(t *testing.T) {
	for _, c := range []struct {
		options Options
		host    string
		ours    bool
	}{
		{Options{Loopback: true}, "127.0.0.1:8080", true},
		{Options{Loopback: true}, "10.0.0.1:8080", false},
		{Options{}, "10.0.0.1:8080", true},
		{Options{Hosts: []string{"console.example"}}, "console.example:443", true},
		{Options{Hosts: []string{"console.example"}}, "other.example", false},
	} {
		w := ask(newConsole(t, c.options), http.MethodGet, "/", "", "Host", c.host)
		if got := w.Code != http.StatusMisdirectedRequest; got != c.ours {
			t.Errorf("%+v, %q: status %d", c.options, c.host, w.Code)
		}
	}
}

func TestHeaders(t *testing.T) {
	w := ask(newConsole(t, Options{Loopback: true}), http.MethodGet, "/", "")
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q lacks %s", csp, want)
		}
	}
	if strings.Contains(w.Body.String(), " style=") {
		t.Error("the page has a style attribute, which the policy forbids")
	}
}

func TestCrossOrigin(t *testing.T) {
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-site", http.StatusForbidden},
		{"Origin", "http://evil.example", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-origin", http.StatusSeeOther},
		{"Origin", "http://127.0.0.1", http.StatusSeeOther},
	} {
		w := ask(newConsole(t, Options{Loopback: true}), http.MethodPost, "/apply?key=acme/user", "revision=1", c.name, c.value)
		if w.Code != c.status {
			t.Errorf("%s: %s: status %d, not %d", c.name, c.value, w.Code, c.status)
		}
	}
}

func TestToken(t *testing.T) {
	const token = "a token of some length"
	c := newConsole(t, Options{Loopback: true, Token: token})
	if w := ask(c, http.MethodGet, "/service?key=acme/user", ""); w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/login?next=") {
		t.Errorf("without the token: status %d, to %s", w.Code, w.Header().Get("Location"))
	}
	for _, path := range []string{"/propose", "/apply", "/examine"} {
		if w := ask(c, http.MethodPost, path, "revision=1"); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without the token: status %d", path, w.Code)
		}
	}
	if w := ask(c, http.MethodGet, "/events", ""); w.Code != http.StatusUnauthorized {
		t.Errorf("events without the token: status %d", w.Code)
	}
	if w := ask(c, http.MethodPost, "/login", "token=wrong"); w.Code != http.StatusUnauthorized || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("a wrong token: status %d", w.Code)
	}
	w := ask(c, http.MethodPost, "/login", url.Values{"token": {token}, "next": {"/service?key=acme/user"}}.Encode())
	cookie := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookie) != 1 || w.Header().Get("Location") != "/service?key=acme/user" {
		t.Fatalf("the token: status %d, %d cookies, to %s", w.Code, len(cookie), w.Header().Get("Location"))
	}
	if !cookie[0].HttpOnly || cookie[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookie[0].Value, token) {
		t.Errorf("the cookie is %v", cookie[0])
	}
	for _, headers := range [][]string{{"Cookie", cookie[0].Name + "=" + cookie[0].Value}, {"Authorization", "Bearer " + token}} {
		if w := ask(c, http.MethodGet, "/", "", headers...); w.Code != http.StatusOK {
			t.Errorf("with %s: status %d", headers[0], w.Code)
		}
	}
	for _, headers := range [][]string{{"Cookie", cookie[0].Name + "=" + token}, {"Authorization", "Bearer x"}, {"Authorization", "Bearer "}} {
		if w := ask(c, http.MethodGet, "/", "", headers...); w.Code == http.StatusOK {
			t.Errorf("with %v: status %d", headers, w.Code)
		}
	}
}

func TestLocal(t *testing.T) {
	for next, want := range map[string]string{
		"":                         "/",
		"/service?key=a":           "/service?key=a",
		"//evil.example":           "/",
		"/\\evil.example":          "/",
		"/\t/evil.example":         "/",
		"https://evil.example":     "/",
		"javascript:alert(1)":      "/",
		"/a\r\nSet-Cookie: x=y":    "/",
		"/service?key=http%3A%2F/": "/service?key=http%3A%2F/",
	} {
		if got := local(next); got != want {
			t.Errorf("%q leads to %q, not %q", next, got, want)
		}
	}
}

func TestLargeForm(t *testing.T) {
	w := ask(newConsole(t, Options{Loopback: true}), http.MethodPost, "/apply", "revision=1&config="+strings.Repeat("x", maxBody))
	if w.Code != http.StatusBadRequest {
		t.Errorf("status %d", w.Code)
	}
}
