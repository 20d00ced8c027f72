package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

const page = "../../docs/etcdrpc.md"

// states are states of etcd for the examples of the page. A value is on a lease
// unless its key begins with "!". <!-- etcd: NAME --> on the page selects a
// state.
var states = map[string]map[string]string{
	"healthy": {
		"acme/user/10.0.0.7:9000":  `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1","zone":"eu-1a","weight":100}}`,
		"acme/user/10.0.0.8:9000":  `{"Addr":"10.0.0.8:9000","Metadata":{"version":"v1","zone":"eu-1b","weight":100}}`,
		"acme/user/10.0.0.9:9000":  `{"Addr":"10.0.0.9:9000","Metadata":{"version":"v2","zone":"eu-1a","weight":10}}`,
		"acme/order/10.0.0.7:9001": "10.0.0.7:9001",
	},
	"faults": {
		"acme/user/10.0.0.7:9000":     `{"Addr":"10.0.0.7:9000"}`,
		"acme/user/10.0.0.8:9000":     `{"Addr":"10.0.0.8:9000"}`,
		"acme/user/10.0.0.9:9000":     `{"Addr":"10.0.0.9:9000"}`,
		"!acme/user/10.0.0.10:9000":   `{"Addr":"10.0.0.10:9000"}`,
		"acme/user/10.0.0.11:9000":    `{"Addr":"10.0.0.11:9000"}`,
		"acme/order/10.0.0.7:9001":    "10.0.0.7:9001",
		"acme/order/old":              "10.0.0.7",
		"acme/order/eu/10.0.0.7:9002": "10.0.0.7:9002",
		"!_grpc_config/acme/order":    `{"loadBalancingConfig":[{"round_robbin":{}}]}`,
	},
}

// example is a command of the page and its output.
type example struct {
	command string
	output  string
	state   string   // names the state of etcd before the command
	events  []string // changes while the command runs
}

var (
	pageToken = regexp.MustCompile("(?ms)^<!-- (etcd|meanwhile): (.*?) -->$|^```text\n(.*?)^```$")
	prompt    = regexp.MustCompile(`(?m)^\$ `)
)

// examples returns the examples of the page.
func examples(t *testing.T) (all []example) {
	t.Helper()

	raw, err := os.ReadFile(page)
	must(t, err)

	var current example
	for _, match := range pageToken.FindAllStringSubmatch(string(raw), -1) {
		switch match[1] {
		case "etcd":
			current.state = match[2]
			continue
		case "meanwhile":
			current.events = strings.Split(match[2], "; ")
			continue
		}

		for _, text := range prompt.Split(match[3], -1)[1:] {
			current.command, current.output, _ = strings.Cut(text, "\n")
			all = append(all, current)
			current = example{}
		}
	}

	return all
}

// TestPage runs every command of docs/etcdrpc.md, and compares its output with
// the page.
func TestPage(t *testing.T) {
	server := serveUsers(t, "Ada", "v1")
	etcd := etcdtest.Start(t)
	t.Setenv("ETCDCTL_ENDPOINTS", strings.Join(etcd.Endpoints(), ","))
	t.Setenv("ETCDCTL_DIAL_TIMEOUT", "1m")
	t.Setenv("ETCDCTL_COMMAND_TIMEOUT", "1m")
	put(t, etcd, "healthy")

	for _, e := range examples(t) {
		if e.state != "" {
			put(t, etcd, e.state)
		}

		var got string
		if args := words(e.command)[1:]; args[0] == "watch" {
			got = followed(t, etcd, server, e, args)
		} else {
			var out bytes.Buffer
			pageApp(server).execute(t.Context(), args, &out, &out)
			got = out.String()
		}

		if got, want := normal(got), normal(e.output); got != want {
			t.Errorf("$ %s\nprints\n%s\nwant\n%s", e.command, got, want)
		}
	}
}

// pageApp connects to one server for every address of the page, except the
// address of a dead server.
func pageApp(server string) *app {
	a := newApp()
	a.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == "10.0.0.11:9000" {
			return nil, &net.OpError{
				Op:  "dial",
				Net: network,
				Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
			}
		}

		return new(net.Dialer).DialContext(ctx, network, server)
	}

	return a
}

// put replaces the contents of etcd with a state.
func put(t *testing.T, etcd *etcdtest.Cluster, state string) {
	t.Helper()

	deleteKey(t, etcd, "", clientv3.WithPrefix())

	lease := renewed(t, etcd)
	for key, value := range states[state] {
		if name, forever := strings.CutPrefix(key, "!"); forever {
			putKey(t, etcd, name, value)
		} else {
			putKey(t, etcd, key, value, lease)
		}
	}
}

// followed returns the output of a command that does not end by itself. It
// makes a change once the previous change is printed.
func followed(
	t *testing.T,
	etcd *etcdtest.Cluster,
	server string,
	e example,
	args []string,
) string {
	t.Helper()

	f := startFollower(pageApp(server), args)
	defer f.stop()

	expected := output.Lines(e.output)
	first := len(expected) - len(e.events)
	await := func(n int) {
		must(t, f.wait(fmt.Sprintf(`\A(.*\n){%d}`, n)))
	}
	await(first)

	for i, what := range e.events {
		if key, ok := strings.CutPrefix(what, "del "); ok {
			deleteKey(t, etcd, key)
		} else if out, errs, code := executed(t, pageApp(server), words(what)[1:]...); code != 0 {
			t.Fatalf("%s: exit code %d, output %s, messages %s; want exit code 0", what, code, out,
				errs)
		}

		await(first + i + 1)
	}

	f.stop()
	<-f.code

	return f.String()
}

// words splits a command at blanks, and interprets only single quotes.
func words(command string) (all []string) {
	for _, word := range regexp.MustCompile(`'([^']*)'|[^' ]+`).FindAllStringSubmatch(command, -1) {
		all = append(all, cmp.Or(word[1], word[0]))
	}

	return all
}

var changing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b\d+s of 15s`), "14s of 15s"},
	{regexp.MustCompile(`"ttl": \d+`), `"ttl": 14`},
	{regexp.MustCompile(`"(at|by)": ".*"`), `"$1": ""`},
	{regexp.MustCompile(`([Rr]evision"?:? |'@)\d+`), "${1}12"},
	{regexp.MustCompile(`--endpoints=\S+`), "--endpoints=etcd"},
	{regexp.MustCompile(`\b[0-9a-f]{11,16}\b`), "lease"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`), "09:00:00.000"},
	{regexp.MustCompile(`([^ \n]) {2,}`), "$1 "}, // the width of columns
}

// normal returns the output with its changing parts replaced, such as times.
func normal(text string) string {
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.with)
	}

	return strings.TrimSpace(text)
}
