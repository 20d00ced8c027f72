package readme

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const (
	owner = "github.com/etcdrpc"
	root  = owner + "/protoc-gen-go-etcd"
)

// published are the modules that the README fetches, and where they are in the repository.
var published = map[string]string{root: ".", root + "/etcdtest": "etcdtest"}

// publish serves this checkout as a release of its modules, and everything else from the module
// proxy that the go command uses. It returns the URL to set GOPROXY to.
func publish(t *testing.T) string {
	t.Helper()
	// A version that no module cache has: the checkout changes under the same one.
	version := "v0.0.0-readme." + time.Now().UTC().Format("20060102150405")
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(upstream(t)))
	mux.Handle("/"+owner+"/", http.NotFoundHandler())
	for path, dir := range published {
		serveModule(t, mux, module.Version{Path: path, Version: version}, filepath.Join(repository, dir))
		forget(t, path, version)
	}
	server := httptest.NewServer(hostless(mux))
	t.Cleanup(server.Close)
	return server.URL
}

// serveModule adds the answers that the go command asks for about one version of a module.
func serveModule(t *testing.T, mux *http.ServeMux, mod module.Version, dir string) {
	t.Helper()
	info, err := json.Marshal(map[string]any{"Version": mod.Version, "Time": time.Now().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := zip.CreateFromDir(&archive, mod, dir); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string][]byte{
		"/@latest":                     info,
		"/@v/list":                     []byte(mod.Version + "\n"),
		"/@v/" + mod.Version + ".info": info,
		"/@v/" + mod.Version + ".mod":  gomod,
		"/@v/" + mod.Version + ".zip":  archive.Bytes(),
	} {
		mux.HandleFunc("/"+mod.Path+path, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(body) // the go command reports an answer that is cut short
		})
	}
}

// hostless makes requests those of the reverse proxy's target and not of the host that was asked.
func hostless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = ""
		next.ServeHTTP(w, r)
	})
}

// upstream is the module proxy that the go command uses.
func upstream(t *testing.T) *url.URL {
	t.Helper()
	for proxy := range strings.FieldsFuncSeq(goEnv(t, "GOPROXY"), func(r rune) bool { return r == ',' || r == '|' }) {
		if u, err := url.Parse(proxy); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
			return u
		}
	}
	t.Skip("GOPROXY names no module proxy")
	return nil
}

// forget removes a version from the module cache when the test ends.
func forget(t *testing.T, path, version string) {
	t.Helper()
	cache := goEnv(t, "GOMODCACHE")
	t.Cleanup(func() {
		downloads := filepath.Join(cache, "cache/download", path, "@v")
		garbage, err := filepath.Glob(filepath.Join(downloads, version+".*"))
		if err != nil {
			t.Error(err)
		}
		for _, file := range append(garbage, filepath.Join(downloads, "list"), filepath.Join(cache, path+"@"+version)) {
			if err := removeReadOnly(file); err != nil {
				t.Error(err)
			}
		}
	})
}

// removeReadOnly is os.RemoveAll for what the go command protects from being edited.
func removeReadOnly(root string) error {
	err := filepath.WalkDir(root, func(file string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(file, 0o700)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(root)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env %s: %v", name, err)
	}
	return strings.TrimSpace(string(output))
}
