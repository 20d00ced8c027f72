package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"unicode"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/ownname"
)

// policy lets a page have nothing but what its own console serves.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guard refuses requests by another name than the console's, and sets the headers of all answers. A page of another
// site whose name was made to resolve to this address is refused by that.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !ownname.Is(r.Host, c.Hosts, c.Loopback) {
			http.Error(w, "This console does not go by that name: call it by its address, or start it with --host.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticated asks for the token, if there is one.
func (c *Console) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case c.Token == "" || c.knows(r):
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet && r.URL.Path != "/events":
			http.Redirect(w, r, at("/login", "next", r.URL.RequestURI()), http.StatusSeeOther)
		default:
			http.Error(w, "Log in first.", http.StatusUnauthorized)
		}
	})
}

// knows reports whether a request has the token, or the cookie of who gave it.
func (c *Console) knows(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(token, c.Token)
	}
	cookie, err := r.Cookie(c.cookie)
	return err == nil && same(cookie.Value, c.session)
}

// same compares in a time that says nothing of the texts.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

type loginPage struct {
	Title, Next string
	Wrong       bool
}

// base returns nil: who has no token is shown nothing of etcd.
func (*loginPage) base() *frame { return nil }

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request) {
	c.show(w, &answer{template: "login", model: &loginPage{Title: "Log in", Next: r.URL.Query().Get("next")}})
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	next := r.PostFormValue("next")
	if c.Token != "" && !same(strings.TrimSpace(r.PostFormValue("token")), c.Token) {
		c.show(w, &answer{status: http.StatusUnauthorized, template: "login", model: &loginPage{Title: "Log in", Next: next, Wrong: true}})
		return
	}
	c.setCookie(w, c.session, 0)
	http.Redirect(w, r, local(next), http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	c.setCookie(w, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (c *Console) setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: c.cookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// local returns a path of this console, "/" for what is none. Browsers drop control characters, and "/\t/host" would be
// an address elsewhere.
func local(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsFunc(next, func(r rune) bool { return r == '\\' || unicode.IsControl(r) }) {
		return "/"
	}
	return next
}
