package proxy

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/git"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
)

// TestAnswers checks what is answered from the tags, what from the module cache, and what not at all.
func TestAnswers(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	repo, cache := git.Repo{Dir: dir}, t.TempDir()
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull, "GOPROXY": "off", "GOMODCACHE": cache,
		"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com",
		"GIT_COMMITTER_DATE": "2026-11-21T09:00:00+01:00",
	} {
		t.Setenv(name, value)
	}
	write(t, filepath.Join(repo.Dir, "etcdtest", "go.mod"), "module "+modules.Root+"/etcdtest\n")
	write(t, filepath.Join(cache, "cache/download/example.com/a/@v/v1.0.0.mod"), "module example.com/a\n")
	write(t, filepath.Join(cache, "cache/download/example.com/a/@v/list"), "v1.0.0\n")
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "--all"},
		{"commit", "--quiet", "--message", "A"},
		{"tag", "etcdtest/v0.1.0"},
		{"tag", "etcdtest/v0.2.0-rc.1"},
		{"tag", "outlierdetection/v0.2.0-rc.1"},
		{"tag", "outlierdetection/v0.2.0-rc.2"},
		{"tag", "v0.3.0"},
	} {
		if _, err := repo.Git(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Start(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tests := []struct{ path, want string }{ // "" where there is nothing
		{modules.Root + "/etcdtest/@v/list", "v0.1.0\nv0.2.0-rc.1\n"},
		{modules.Root + "/etcdtest/@latest", `{"Time":"2026-11-21T08:00:00Z","Version":"v0.1.0"}`},
		{modules.Root + "/outlierdetection/@latest", `{"Time":"2026-11-21T08:00:00Z","Version":"v0.2.0-rc.2"}`},
		{modules.Root + "/etcdtest/@v/v0.1.0.info", `{"Time":"2026-11-21T08:00:00Z","Version":"v0.1.0"}`},
		{modules.Root + "/etcdtest/@v/v0.1.0.mod", "module " + modules.Root + "/etcdtest\n"},
		{modules.Root + "/etcdtest/@v/v0.3.0.info", ""},
		{modules.Root + "/etcdtest/@v/v0.1.0.txt", ""},
		{modules.Root + "/cmd/etcdrpc/@latest", ""},
		{modules.Root + "/cmd/@v/list", ""},
		{"github.com/etcdrpc/@v/list", ""},
		{"example.com/a/@v/v1.0.0.mod", "module example.com/a\n"},
		{"example.com/a/@v/list", ""}, // which the cache need not know all of
		{"example.com/../example.com/a/@v/v1.0.0.zip", ""},
	}
	for _, tt := range tests {
		response, err := http.Get(p.server.URL + "/" + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if tt.want == "" && response.StatusCode != http.StatusNotFound || tt.want != "" && string(body) != tt.want {
			t.Errorf("%s: %s\n%s", tt.path, response.Status, body)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestUsersProxies checks that the go command asks each entry of the user's GOPROXY, in order, but none for our modules.
func TestUsersProxies(t *testing.T) {
	files := t.TempDir()
	for _, path := range []string{"example.com/b", modules.Root + "/cmd"} {
		write(t, filepath.Join(files, path, "@v/list"), "v1.0.0\n")
		write(t, filepath.Join(files, path, "@v/v1.0.0.info"), `{"Version":"v1.0.0"}`)
		write(t, filepath.Join(files, path, "@v/v1.0.0.mod"), "module "+path+"\n")
	}
	repo := git.Repo{Dir: t.TempDir()}
	if _, err := repo.Git(t.Context(), "init", "--quiet"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GOPROXY", "file://"+t.TempDir()+",file://"+files+"|direct")
	p, err := Start(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	env := append(p.Env(t.TempDir()), "GOSUMDB=off")
	for path, found := range map[string]bool{"example.com/b": true, modules.Root + "/cmd": false} {
		out, err := command.Run(t.Context(), t.TempDir(), env, "go", "list", "-m", path+"@latest")
		if got := string(out) == path+" v1.0.0\n"; got != found || !found && !strings.Contains(err.Error(), "GOVCS disallows") {
			t.Errorf("%s: %q, %v", path, out, err)
		}
	}
}
