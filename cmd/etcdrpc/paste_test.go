package main

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// pasted matches a printed command line, which may be a pipe.
var pasted = regexp.MustCompile(`(etcdrpc|env) (('[^']*'|[^\s';|]+) )*'?(--endpoints|ETCDCTL_ENDPOINTS)=('[^']*'|[^\s';|])+( '[^']*'| [^\s';]+)*`)

// otherShell returns a function that runs a line in dir, and returns its
// output. The shell's variables select another etcd, another namespace and
// user, and files that do not exist. The line must not change the other etcd.
func otherShell(t testing.TB, dir string) (paste func(line string) string) {
	other := etcdtest.Start(t)

	return func(line string) string {
		t.Helper()

		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir = dir

		cmd.Env = append(os.Environ(), "PATH="+dir+
			":"+os.Getenv("PATH"), "ETCDCTL_ENDPOINTS="+bare(other), "ETCDCTL_NAMESPACE=elsewhere/",
			"ETCDCTL_USER=nobody", "ETCDCTL_PASSWORD=secret", "ETCDCTL_CACERT=no.pem",
			"ETCDCTL_CERT=no.pem",
			"ETCDCTL_KEY=no.pem",
			"ETCDCTL_DIAL_TIMEOUT=1m",
			"ETCDCTL_COMMAND_TIMEOUT=1m",
			"ETCDCTL_DISCOVERY_SRV=acme.internal", "ETCDCTL_INSECURE_TRANSPORT=false",
			"ETCDCTL_INSECURE_SKIP_TLS_VERIFY=true",
			"ETCDCTL_AUTH_JWT_TOKEN=x")

		out, err := cmd.CombinedOutput()
		if at := revision(t, other); line == "" || err != nil || at != 1 {
			t.Errorf("the line %q: %v: %s\nthe other etcd is at revision %d, want 1", line, err,
				out, at)
		}

		return string(out)
	}
}

// revision returns the current revision of an etcd.
func revision(t testing.TB, etcd *etcdtest.Cluster) int64 {
	t.Helper()

	resp, err := etcd.Admin().Get(t.Context(), "x")
	must(t, err)

	return resp.Header.Revision
}
