package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/targets"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// hostile are texts that would do harm if they were shown unescaped.
var hostile = []string{
	"a\nFIX: etcdctl del --prefix acme",
	"b\r\nmalformed: b\n  do  etcdctl del --prefix acme",
	"c\x1b[2J\x1b[31mred",
	"d\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
	"e\u202egnp.exe",
	"f\u2066\u2069\u200b\u200d\ufeff",
	"g\x00\x07\b\x7f\u0085\u2028\u2029",
	"h\U000e0001\U000e0041\u00ad",
	"<script>alert(1)<!--",
	"$(touch pwned)`touch pwned`;'\"",
	"--prefix",
	"j\xff\xfe",
	"k\t\v\f",
	strings.Repeat("x\n", 10_000),
}

const hostileKey = "acme/user"

// hostileWorld fills etcd with everything that a hostile user could write below
// acme/ and as live configs.
func hostileWorld(t *testing.T, etcd *etcdtest.Cluster) {
	t.Helper()

	lease := granted(t, etcd, 600)
	put := func(key string, value any) {
		t.Helper()

		text, ok := value.(string)
		if !ok {
			raw, err := json.Marshal(value)
			must(t, err)
			text = string(raw)
		}

		putKey(t, etcd, key, text, lease)
	}

	type object = map[string]any

	for i, text := range hostile {
		addr := func(n int) string { return fmt.Sprintf("127.0.0.1:%d", 10*i+n) }
		tags := object{"version": text, "zone": text, "weight": "3", text: text}
		at := func(layout string) string { return hostileKey + "/" + layout + text }
		put(at("json"), object{"Op": 0, "Addr": addr(1001), "Metadata": tags})
		put(at("plain"), addr(1002))

		put(at("kratos"), object{
			"id":        text,
			"name":      "user",
			"version":   text,
			"metadata":  tags,
			"endpoints": []string{"grpc://" + addr(1003)},
		})

		put(at("kitex"), object{"network": "tcp", "address": addr(1004), "weight": 1, "tags": tags})
		put(at("bad address"), object{"Addr": text})
		put(at("bad value"), text)
		put(at("bad op"), object{"Op": text, "Addr": addr(1005)})
		put(at("bad kind"), object{"Addr": object{text: text}})
		put(fmt.Sprintf("acme/%s%d", text, lease), addr(1006)) // lease suffix
		put("acme/"+text+"/10.0.0.1:1", "10.0.0.1:1")          // a service key
		put("acme/"+text+"/nested/10.0.0.1:1", "10.0.0.1:1")
		put(inventory.ConfigPrefix+"acme/"+text, `{"loadBalancingConfig":[`)
		put(inventory.ConfigPrefix+"acme/raw"+text, text)
		put(inventory.ConfigPrefix+"acme/policy"+text,
			object{"loadBalancingConfig": []object{{text: object{}}}, text: text})
		put(fmt.Sprint("acme/shown", i, "/a"), object{"Addr": addr(1007)})
		put(fmt.Sprint(inventory.ConfigPrefix, "acme/shown", i), text)
		put(fmt.Sprint("acme/split", i, "/a"), object{"Addr": addr(1008)})
		put(fmt.Sprint("acme/split", i, "/b"), object{"Addr": addr(1009)})

		put(
			fmt.Sprint(inventory.ConfigPrefix, "acme/split", i),
			object{"loadBalancingConfig": []object{{"etcd": object{
				"drain": []string{text}, "childPolicy": []object{{"round_robin": object{}}}}}}},
		)
	}

	put(inventory.ConfigPrefix+hostileKey, object{"loadBalancingConfig": []object{{"etcd": object{
		"drain": hostile[:len(hostile)-1], "childPolicy": []object{{"round_robin": object{}}}}}}})
}

// hostileLines matches lines of hostile texts after their first.
var hostileLines = regexp.MustCompile(
	`^(FIX: etcdctl|malformed: b|  do  etcdctl del --prefix acme|x$)`)

// checkShown fails if a text would harm a terminal, or has forged lines.
func checkShown(t *testing.T, what, text string) {
	t.Helper()

	if !utf8.ValidString(text) {
		t.Errorf("%s shows bytes that are not UTF-8", what)
	}

	for n, line := range strings.Split(text, "\n") {
		i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) })
		if i >= 0 || len(line) > 10*output.MaxText || hostileLines.MatchString(line) {
			t.Errorf("%s: line %d of %d bytes shows %.40q", what, n+1, len(line), line[max(i, 0):])
			return
		}
	}
}

// checkLines fails for each line that matches neither pattern nor hostileLines.
func checkLines(t *testing.T, what, text, pattern string) {
	t.Helper()

	own := regexp.MustCompile(`^(` + pattern + `)$`)
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if !own.MatchString(line) {
			t.Errorf("%s: line %.100q was forged: want %s", what, line, pattern)
		}
	}
}

// shows runs a command line in both formats, and returns its text. It decodes
// the JSON into value, unless value is nil.
func shows(t *testing.T, etcd *etcdtest.Cluster, value any, args ...string) string {
	t.Helper()

	what := fmt.Sprintf("%.100q", args)
	text, errs, _ := executed(t, newApp(), at(etcd, args...)...)
	checkShown(t, what, text)
	checkShown(t, what+" to stderr", errs)
	out, errs, _ := executed(t, newApp(), at(etcd, append(args, "-o", "json")...)...)
	checkShown(t, what+" in JSON", out)
	checkShown(t, what+" to stderr", errs)

	if value != nil {
		if err := json.Unmarshal([]byte(out), value); err != nil {
			t.Errorf("%s -o json prints invalid JSON: %v", what, err)
		}
	}

	return text
}

// TestS12_Commands runs every command on an etcd full of hostile text.
func TestS12_Commands(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	hostileWorld(t, etcd)

	t.Run("ls", func(t *testing.T) {
		for _, prefix := range []string{"", "acme/", hostileKey} {
			var services []serviceJSON
			text := shows(t, etcd, &services, "ls", prefix)

			rows := 1
			for _, s := range services {
				rows += len(s.Instances) + len(s.Malformed)
			}

			if got := strings.Count(text, "\n"); got != rows || rows < 7*len(hostile) {
				t.Errorf("ls %q prints %d lines, want %d, at least %d", prefix, got, rows,
					7*len(hostile))
			}
		}

		shows(t, etcd, nil, "ls", "acme/"+hostile[0])
		shows(t, etcd, nil, "ls", "nobody"+hostile[2])
	})

	t.Run("doctor", func(t *testing.T) {
		for _, args := range [][]string{{"doctor", "--no-dial"},
			{"doctor", hostileKey, "--no-dial"}, {"doctor", hostileKey, "--skip", "malformed"}} {
			var r doctor.Report
			text := shows(t, etcd, &r, args...)

			if len(r.Findings) < len(hostile) {
				t.Errorf("%q: %d findings, want at least %d", args, len(r.Findings), len(hostile))
			}

			checkLines(t, fmt.Sprintf("%q", args), text,
				`  do  .*|\d+ findings in .*|(error|warning|note) (`+
					strings.Join(doctor.KindNames(), "|")+`)( at .*)?: .*`)
		}
	})

	t.Run("policy", func(t *testing.T) {
		for i, evil := range hostile {
			bad := fmt.Sprint("acme/shown", i)
			key := fmt.Sprint("acme/split", i)
			var p policyJSON
			text := shows(t, etcd, &p, "policy", "get", bad)

			if !utf8.ValidString(evil) {
				continue
			}

			if p.Config != evil || strings.Count(text, "\n") != 1 {
				t.Errorf("policy get prints %q, and with -o json %.40q, want one line with %.40q",
					text, p.Config, evil)
			}

			var config struct {
				LoadBalancingConfig []struct{ Etcd struct{ Drain []string } }
			}

			text = shows(t, etcd, nil, "policy", "get", key)
			err := json.Unmarshal([]byte(text), &config)
			if err != nil || config.LoadBalancingConfig[0].Etcd.Drain[0] != evil {
				t.Errorf("policy get prints %q, error %v, want the drain of %.40q", text, err, evil)
			}

			const good = `{"loadBalancingConfig":[{"round_robin":{}}]}`
			for _, args := range [][]string{{"policy", "rm", key}, {"policy", "set", key, good},
				{"policy", "set", bad, good}, {"drain", key, "a"}} {
				shows(t, etcd, new(policyedit.EditJSON), append(args, "--dry-run")...)
			}

			shows(t, etcd, nil, "undrain", key, evil, "--dry-run")
			shows(t, etcd, nil, "drain", bad, "a", "--dry-run")
		}

		shows(t, etcd, nil, "drain", hostileKey, "nobody")
		shows(t, etcd, nil, "drain", hostileKey, "plain"+hostile[1], "--dry-run")
		shows(t, etcd, nil, "policy", "get", "acme/"+hostile[0])
	})

	t.Run("sd", func(t *testing.T) {
		var groups []targets.Group
		shows(t, etcd, &groups, "sd", "--once")

		if len(groups) < len(hostile) {
			t.Errorf("sd --once prints %d groups, want at least %d", len(groups), len(hostile))
		}
	})

	t.Run("ui", func(t *testing.T) {
		b := openPages(t, at(etcd, "ui")...)
		_, page := b.await("/", `href="/service\?key=acme%2fuser"`)
		paths := []string{"/", "/edit?key=acme/user&kind=drain&name=" + url.QueryEscape(hostile[4])}
		for _, link := range regexp.MustCompile(`href="(/service[^"]*)"`).FindAllStringSubmatch(
			page, -1) {
			paths = append(paths, html.UnescapeString(link[1]))
		}

		for _, path := range paths {
			resp, page := b.do(http.MethodGet, path, nil, nil)
			if resp.code >= http.StatusInternalServerError ||
				len(page) > 1<<20 ||
				strings.Contains(page, "<script>alert") {
				t.Errorf("page %s: status %d, %d bytes, want a small page without the script",
					path, resp.code, len(page))
			}

			checkShown(t, path,
				regexp.MustCompile(`(?s)<select.*?</select>`).ReplaceAllString(page, ""))
		}
	})

	t.Run("completion", func(t *testing.T) {
		for _, args := range [][]string{{"ls", ""}, {"doctor", "acme/"}, {"policy", "get", ""},
			{"drain", hostileKey, ""}, {"undrain", hostileKey, ""},
			{"undrain", "acme/split0", ""}} {
			// This is cobra's hidden command for shells.
			out, errs, _ := executed(t, newApp(), append(at(etcd, "__complete"), args...)...)
			what := fmt.Sprintf("completion of %q", args)
			checkShown(t, what, out)
			checkShown(t, what, errs)
			checkLines(t, what, out, `[\w/.:@%+=,-]+`)

			if args[0] == "ls" && !slices.Contains(strings.Split(out, "\n"), hostileKey) {
				t.Errorf("%s offers %q, want %q in it", what, out, hostileKey)
			}
		}
	})

	t.Run("watch", func(t *testing.T) {
		for _, format := range []string{"table", "json"} {
			f := startFollower(newApp(), at(etcd, "watch", hostileKey, "-o", format))
			if err := f.wait(`plain--prefix`); err != nil { // all entries arrive at once
				t.Fatal(err)
			}

			putKey(t, etcd, hostileKey+"/zz"+format, "127.0.0.1:1")
			must(t, f.wait("zz"+format+".*\n"))
			f.stop()
			<-f.code
			checkShown(t, "watch -o "+format, f.String())
			checkLines(t, "watch", f.String(), `\d\d:\d\d:\d\d\.\d{3} [+~-] .*|\{"time":.*\}`)
		}
	})
}
