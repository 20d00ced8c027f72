package main

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestDiff(t *testing.T) {
	for _, tc := range []struct{ name, before, after, want string }{
		{"nothing", "", "", ""},
		{"same", "a\nb", "a\nb", "  a\n  b\n"},
		{"new", "", "a\nb\n", "+ a\n+ b\n"},
		{"gone", "a", "", "- a\n"},
		{"replaced", "a\nb\nc", "a\nx\nc", "  a\n- b\n+ x\n  c\n"},
		{"moved", "a\nb\nc", "b\nc\na", "- a\n  b\n  c\n+ a\n"},
	} {
		if got := diff(tc.before, tc.after); got != tc.want {
			t.Errorf("%s:\n%swant:\n%s", tc.name, got, tc.want)
		}
	}
}

func TestCompareNames(t *testing.T) {
	inOrder := []string{"", "10.0.0.5:80", "10.0.0.5:443", "10.0.0.10:80", "10.0.0.010:80", "10.0.0.010:81", "a", "a-2", "a-2b", "a-18446744073709551617", "b1"}
	for i, a := range inOrder {
		for k, b := range inOrder {
			if got, want := compareNames(a, b), cmp.Compare(i, k); got != want {
				t.Errorf("%q and %q: %d, not %d", a, b, got, want)
			}
		}
	}
}

func TestKeyRange_Intersect(t *testing.T) {
	for _, tc := range []struct {
		r, o, want keyRange
		ok         bool
	}{
		{everything, prefixRange("a/"), prefixRange("a/"), true},
		{prefixRange("a/"), everything, prefixRange("a/"), true},
		{everything, everything, everything, true},
		{prefixRange("acme"), prefixRange("acme/user/"), prefixRange("acme/user/"), true},
		{prefixRange("acme/user/"), prefixRange("acme"), prefixRange("acme/user/"), true},
		{prefixRange("a/"), prefixRange("b/"), keyRange{}, false},
	} {
		got, ok := tc.r.intersect(tc.o)
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("%v and %v: %v, %v; want %v, %v", tc.r, tc.o, got, ok, tc.want, tc.ok)
		}
	}
}

// TestSurveyAll_Owners tells of which service key each entry is.
func TestSurveyAll_Owners(t *testing.T) {
	const lease = 7587882123456789012
	for _, tc := range []struct {
		name, key, value string
		lease            int64
		want             string // "" none
	}{
		{"naming", "acme/user/a", `{"Addr":"10.0.0.7:80"}`, 1, "acme/user"},
		{"plain", "acme/user/a", "10.0.0.7:80", 1, "acme/user"},
		{"go-zero", "acme/user/7587882123456789012", "10.0.0.7:80", lease, "acme/user"},
		{"lease suffix", "hello7587882123456789012", "10.0.0.7:80", lease, "hello"},
		{"lease suffix after a digit", "hello27587882123456789012", "10.0.0.7:80", lease, "hello2"},
		{"lease suffix below a slash", "acme/hello7587882123456789012", "10.0.0.7:80", lease, "acme/hello"},
		{"an instance that ends in its lease", "acme/user/a7587882123456789012", `{"Addr":"10.0.0.7:80"}`, lease, "acme/user"},
		{"leading slash", "/services/user/a", "10.0.0.7:80", 1, "/services/user"},
		{"home-made", "acme/user/a", `{"endpoint":"10.0.0.7:80"}`, 1, "acme/user"},
		{"home-made, named by its address", "acme/user/10.0.0.7:80", `{"endpoint":"10.0.0.7:80"}`, 0, "acme/user"},
		{"a setting", "acme/user/a", `{"endpoint":"10.0.0.7:80"}`, 0, ""},
		{"a deletion in etcd's naming", "acme/user/a", `{"Op":1,"Addr":"10.0.0.7:80"}`, 1, ""},
		{"kitex' on a socket", "acme/user/a", `{"network":"unix","address":"10.0.0.7:80"}`, 1, ""},
		{"dubbo's that is not enabled", "acme/user/a", `{"ServiceName":"user","Host":"h","Port":80,"Enable":false}`, 1, ""},
		{"no service", "motd", "10.0.0.7:80", 0, ""},
		{"no key", "/motd", "10.0.0.7:80", 0, ""},
		{"no address", "acme/user/a", "hello", 1, ""},
	} {
		services := surveyAll([]entry{{key: tc.key, value: []byte(tc.value), lease: tc.lease}})
		got := ""
		if len(services) == 1 && len(services[0].instances) == 1 {
			got = services[0].key
		}
		if got != tc.want {
			t.Errorf("%s: %q is of %q, want %q", tc.name, tc.key, got, tc.want)
		}
	}
}

func TestSurveyAll_AddressesThatAreNoService(t *testing.T) {
	entries := []entry{
		{key: "config/db/primary", value: []byte("db:5432")},
		{key: "config/db/replica", value: []byte("db:5433")},
	}
	services := surveyAll(entries)
	if len(services) != 1 || services[0].evident() {
		t.Errorf("settings were taken for a service: %+v", services)
	}
	entries[0].lease = 1
	if services := surveyAll(entries); !services[0].evident() {
		t.Error("what is on a lease was not taken for a service")
	}
}

func TestChildPolicy(t *testing.T) {
	for text, want := range map[string]string{
		"round_robin":              `[{"round_robin":{}}]`,
		"weighted":                 `[{"etcd_weighted":{}}]`,
		`{"pick_first":{}}`:        `[{"pick_first":{}}]`,
		` [{"a":{}},{"b":{}}] `:    `[{"a":{}},{"b":{}}]`,
		"":                         "",
		"[]":                       "",
		`{}`:                       "",
		`{"a":{},"b":{}}`:          "",
		`{"pick_first":{}} excess`: "",
	} {
		got, err := childPolicy(text)
		if string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	for name, policy := range shortPolicies {
		if err := checkConfig(`{"loadBalancingConfig":[` + policy + `]}`); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMixesUp(t *testing.T) {
	of := func(key string, layout endpoint.Layout, weight uint32) *service {
		e := endpoint.Endpoint{Instance: "a", Addr: "h:1", Weight: weight}
		value, err := layout.Encode(key, e)
		if err != nil {
			t.Fatal(err)
		}
		return &service{key: key, instances: []instance{{Endpoint: e, layout: layout, entry: entry{key: layout.Key(key, e, 1), value: value}}}}
	}
	with := func(layout endpoint.Layout, value string) *service {
		s := of("user2", layout, 0)
		s.instances[0].entry.value = []byte(value)
		return s
	}
	malformed := &service{key: "user2", malformed: []instance{{entry: entry{key: "user2/a", value: []byte(`{"Addr":"h`)}}}}
	two := of("user2", endpoint.GoFrame, 0)
	two.instances[0].entry.key = "user2/h:1,h:2"
	for _, tc := range []struct {
		name string
		s, o *service
		want bool
	}{
		{"ours", of("user", endpoint.EndpointJSON, 0), of("user-admin", endpoint.Plain, 0), false},
		{"go-zero's lists with the slash", of("user", endpoint.GoZero, 0), of("user-admin", endpoint.GoZero, 0), false},
		{"lease suffix", of("user", endpoint.LeaseSuffix, 0), of("user2", endpoint.LeaseSuffix, 0), true},
		{"kitex lists with the slash", of("user", endpoint.Kitex, 0), of("user2", endpoint.Kitex, 0), false},
		{"GoFrame beside GoFrame", of("user", endpoint.GoFrame, 0), of("user2", endpoint.GoFrame, 0), false},
		{"GoFrame takes several addresses", of("user", endpoint.GoFrame, 0), two, false},
		{"GoFrame panics at a name", of("user", endpoint.GoFrame, 0), of("user2", endpoint.Kratos, 0), true},
		{"GoFrame fails at plain", of("user", endpoint.GoFrame, 0), of("user2", endpoint.Plain, 0), true},
		{"kratos skips other names", of("user", endpoint.Kratos, 0), of("user2", endpoint.Kratos, 0), false},
		{"kratos parses naming", of("user", endpoint.Kratos, 0), of("user2", endpoint.EndpointJSON, 0), false},
		{"kratos fails at a weight", of("user", endpoint.Kratos, 0), of("user2", endpoint.EndpointJSON, 5), true},
		{"kratos takes texts for metadata", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":{"k":"v"}}`), false},
		{"kratos fails at a number in metadata", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":{"k":1}}`), true},
		{"kratos fails at metadata that is a text", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":"x"}`), true},
		{"kratos fails at a version that is a number", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"addr":"h:1","version":2}`), true},
		{"kratos parses our go-micro", of("user", endpoint.Kratos, 0), of("user2", endpoint.GoMicro, 5), false},
		{"kratos fails at go-micro's own endpoints", of("user", endpoint.Kratos, 0),
			with(endpoint.GoMicro, `{"name":"user2","version":"","metadata":null,"endpoints":[{"name":"Say.Hello"}],"nodes":[{"id":"a","address":"h:1"}]}`), true},
		{"kratos fails at half an entry", of("user", endpoint.Kratos, 0), malformed, true},
		{"kitex bears half an entry", of("user", endpoint.Kitex, 0), malformed, false},
		{"kratos fails at plain", of("user", endpoint.Kratos, 0), of("user2", endpoint.Plain, 0), true},
		{"nested is another matter", of("user", endpoint.Kitex, 0), of("user/eu", endpoint.Kitex, 0), false},
		{"the longer one is not hurt", of("user2", endpoint.Kitex, 0), of("user", endpoint.Kitex, 0), false},
	} {
		if got := mixesUp(tc.s, tc.o) != ""; got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestShell(t *testing.T) {
	for word, want := range map[string]string{
		"acme/user/10.0.0.7:9000":  "acme/user/10.0.0.7:9000",
		"":                         "''",
		"a b":                      "'a b'",
		"it's; rm":                 `'it'\''s; rm'`,
		"größe":                    "'größe'",
		"a\nb":                     `$'a\012b'`,
		"it's\t\\\x1b":             `$'it\'s\011\\\033'`,
		"ü\u202e\xff":              `$'ü\342\200\256\377'`,
		"--prefix":                 "-- --prefix",
		"-\n":                      `-- $'-\012'`,
		"a\x00b":                   "<KEY>",
		strings.Repeat("x", 1<<20): "<KEY>",
	} {
		if got := shell(word); got != want {
			t.Errorf("shell(%.40q) = %.80s, want %s", word, got, want)
		}
		if bash, err := exec.LookPath("bash"); err == nil && want != noWord {
			out, err := exec.CommandContext(t.Context(), bash, "-c", `set -- x `+want+`; [ "$2" = -- ] && shift; printf %s "$2"`).Output()
			if err != nil || string(out) != word {
				t.Errorf("bash takes %s for %q, %v", want, out, err)
			}
		}
	}
}

func TestOffered(t *testing.T) {
	words := []string{"acme/user", "größe", "10.0.0.7:9000", "a b", "a\tb", "a\nb", "$(x)", "`x`", "a;b", "a'b", "~", "-x", "*", "_activeHelp_ x",
		"a\x1b", "a\u202e", "a\xff", "", strings.Repeat("x", 1<<20)}
	if got := offered(words); !slices.Equal(got, words[:3]) {
		t.Errorf("offered %q", got)
	}
}

// TestOutput looks for output that does not go through print.go, where what comes from etcd is escaped.
func TestOutput(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if name == "print.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && writes(call) {
				t.Errorf("%s: output: use sayf, sayLines, table or writeJSON", fset.Position(call.Pos()))
			}
			return true
		})
	}
}

// writes reports whether a call writes to something else than a variable of its function.
func writes(call *ast.CallExpr) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		id, ok := call.Fun.(*ast.Ident)
		return ok && (id.Name == "print" || id.Name == "println")
	}
	from, _ := f.X.(*ast.Ident)
	name := f.Sel.Name
	switch {
	case from != nil && from.Name == "fmt" && strings.HasPrefix(name, "Fprint"):
		_, local := call.Args[0].(*ast.UnaryExpr)
		return !local
	case from != nil && from.Name == "fmt":
		return strings.HasPrefix(name, "Print")
	case from != nil && from.Name == "io":
		return name == "WriteString" || strings.HasPrefix(name, "Copy")
	case from != nil && from.Name == "json":
		return name == "NewEncoder"
	}
	return strings.HasPrefix(name, "Print") || name == "Write"
}
