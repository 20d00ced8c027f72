// Package proxy is a module proxy for the versions that a repository has tagged but not pushed. It serves all other modules
// from the module cache, or has the go command ask the user's GOPROXY.
package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/mod/zip"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/plan"
)

// A Proxy is a module proxy on the loopback interface.
type Proxy struct {
	repo    git.Repo
	cache   string // the go command's cache of downloads
	server  *httptest.Server
	goproxy string // the proxy itself, and then the user's GOPROXY
	govcs   string
}

// Start serves a repository, which must not be a linked work tree.
func Start(ctx context.Context, repo git.Repo) (*Proxy, error) {
	out, err := command.Run(ctx, repo.Dir, nil, "go", "env", "-json", "GOPROXY", "GOMODCACHE", "GOVCS")
	if err != nil {
		return nil, err
	}
	var env struct{ GOPROXY, GOMODCACHE, GOVCS string }
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	p := &Proxy{repo: repo, cache: filepath.Join(env.GOMODCACHE, "cache", "download"), govcs: strings.TrimSuffix(modules.Root+":off,"+env.GOVCS, ",")}
	mux := http.NewServeMux()
	mux.Handle("/", p)
	p.server = httptest.NewServer(mux)
	p.goproxy = p.server.URL + "," + p.passOn(mux, env.GOPROXY)
	return p, nil
}

// Close stops serving.
func (p *Proxy) Close() { p.server.Close() }

// Env returns an environment in which the go command uses the proxy and the module cache modcache. It must not be the user's,
// since the versions that the proxy serves may never be pushed. With -trimpath, builds are shared by all such caches.
func (p *Proxy) Env(modcache string) []string {
	return []string{
		"GOPROXY=" + p.goproxy, "GOVCS=" + p.govcs, "GOMODCACHE=" + modcache, "GONOSUMDB=" + modules.Root + "," + modules.Root + "/*",
		"GONOPROXY=none", "GOPRIVATE=none", "GOWORK=off", "GOFLAGS=-modcacherw -trimpath", "GOBIN=",
		// The go command takes a released version to be the same for good, and keeps an index of it beside what it has
		// built: where a release is tried again, it would look for the files of the last time.
		"GODEBUG=goindex=0",
	}
}

var entry = regexp.MustCompile(`[^,|]+`)

// passOn returns GOPROXY with its module proxies behind this one, where they are not asked for what is never pushed. "off" and
// "direct" stay as they are; GOVCS keeps "direct" from asking.
func (p *Proxy) passOn(mux *http.ServeMux, goproxy string) string {
	count := 0
	return entry.ReplaceAllStringFunc(goproxy, func(user string) string {
		u, err := url.Parse(strings.TrimSpace(user))
		if err != nil || u.Scheme == "" {
			return user
		}
		var to http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
		if u.Scheme == "file" {
			to = http.FileServer(http.Dir(filepath.FromSlash(u.Path)))
		}
		prefix := fmt.Sprintf("/user/%d", count)
		count++
		mux.Handle(prefix+"/", http.StripPrefix(prefix, others(to)))
		return p.server.URL + prefix
	})
}

// others passes on the requests that are not for paths of this repository.
func others(to http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, _, err := split(r.URL.Path); err == nil && own(path) {
			http.NotFound(w, r)
			return
		}
		to.ServeHTTP(w, r)
	})
}

// split returns the module path and the rest of the path of a request.
func split(request string) (path, file string, err error) {
	escaped, file, _ := strings.Cut(strings.TrimPrefix(request, "/"), "/@")
	path, err = module.UnescapePath(escaped)
	return path, file, err
}

// own reports whether a module of the path could be in this repository.
func own(path string) bool {
	return strings.HasPrefix(modules.Root+"/", path+"/") || strings.HasPrefix(path, modules.Root+"/")
}

// ServeHTTP answers as https://go.dev/ref/mod#goproxy-protocol says.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, file, err := split(r.URL.Path)
	if err == nil && own(path) {
		p.serveOwn(w, r, path, file)
		return
	}
	if ext := filepath.Ext(file); ext == ".info" || ext == ".mod" || ext == ".zip" {
		cached := filepath.Join(p.cache, filepath.FromSlash(filepath.Clean(r.URL.Path)))
		if _, err := os.Stat(cached); err == nil {
			http.ServeFile(w, r, cached)
			return
		}
	}
	http.NotFound(w, r)
}

// serveOwn answers requests for paths of this repository. They go no further.
func (p *Proxy) serveOwn(w http.ResponseWriter, r *http.Request, path, file string) {
	m, ok := modules.ByPath(path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	body, err := p.answer(r.Context(), m, file)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case body == nil:
		http.NotFound(w, r)
	default:
		_, _ = w.Write(body) // the go command reports an answer that is cut short
	}
}

// answer returns a file of the protocol for a module of this repository, or nil if there is none.
func (p *Proxy) answer(ctx context.Context, m modules.Module, file string) ([]byte, error) {
	tags, err := p.repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	versions := plan.Versions(m, tags)
	if file == "v/list" {
		return []byte(strings.Join(versions, "\n") + "\n"), nil
	}
	version := strings.TrimPrefix(strings.TrimSuffix(file, filepath.Ext(file)), "v/")
	if file == "latest" {
		version, file = latest(versions), "v/.info"
	}
	for _, v := range versions {
		if v == version {
			return p.version(ctx, m, v, filepath.Ext(file))
		}
	}
	return nil, nil
}

// latest returns the version for @latest: the highest that is not a pre-release, or else the highest.
func latest(versions []string) (last string) {
	for _, v := range versions {
		if last == "" || semver.Prerelease(v) == "" || semver.Prerelease(last) != "" {
			last = v
		}
	}
	return last
}

// version returns the file of the protocol with an extension for a version, or nil if there is none.
func (p *Proxy) version(ctx context.Context, m modules.Module, version, ext string) ([]byte, error) {
	tag := "refs/tags/" + m.Tag(version)
	switch ext {
	case ".info":
		text, err := p.repo.Git(ctx, "log", "-1", "--format=%cI", tag)
		if err != nil {
			return nil, err
		}
		committed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"Version": version, "Time": committed.UTC()})
	case ".mod":
		return p.repo.File(ctx, tag, m.File("go.mod"))
	case ".zip":
		var archive bytes.Buffer
		dir := strings.TrimPrefix(m.Dir, ".")
		err := zip.CreateFromVCS(&archive, module.Version{Path: m.Path(), Version: version}, p.repo.Dir, tag, dir)
		return archive.Bytes(), err
	}
	return nil, nil
}
