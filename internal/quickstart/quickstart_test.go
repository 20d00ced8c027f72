package quickstart

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

var update = flag.Bool("update", false,
	"pack the files of the examples instead of comparing with them")

// source returns the directory of the example.
func (e example) source() string {
	return "../../" + strings.TrimPrefix(e.path, Self+"/")
}

// pack returns an archive of the example's files, except those that are
// generated.
func (e example) pack(t *testing.T) (archive string) {
	t.Helper()

	add := func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if slices.Contains([]string{"bin", "gen", "third_party"}, name) {
				return fs.SkipDir
			}

			return err
		}

		content, err := os.ReadFile(filepath.Join(e.source(), name))
		archive += "-- " + name + " --\n" + string(content)

		return err
	}

	must.Succeed(t, fs.WalkDir(os.DirFS(e.source()), ".", add))

	return archive
}

// TestFilesAreTheExamples checks that a project with the example's module path
// and key has the example's files.
func TestFilesAreTheExamples(t *testing.T) {
	for archive, e := range map[string]example{
		"grpc.txtar":    grpcExample,
		"connect.txtar": connectExample,
	} {
		packed := e.pack(t)
		if *update {
			must.Succeed(t, os.WriteFile(archive, []byte(packed), 0o600))
			continue
		}

		got, err := Project{
			Module:  e.path,
			Key:     "acme/greeter",
			Replace: "../..",
			Connect: len(e.needs) > 1,
		}.Files()

		must.Succeed(t, err)

		for name, text := range got {
			content, err := os.ReadFile(filepath.Join(e.source(), name))
			if err != nil || text != string(content) {
				t.Errorf("%s is not that of the example, %v; run: make generate", name, err)
			}
		}

		want := strings.Count(packed, "\n-- ") + 2 // with the first file and options.proto
		if len(got) != want {
			t.Errorf("%d files, want %d; run: make generate", len(got), want)
		}
	}
}

func TestProject(t *testing.T) {
	for _, tt := range []struct {
		name    string
		project Project // of the module zoo.example/shop
		has     string  // a part of go.mod
		lacks   string  // what go.mod must not have
	}{
		{"release", Project{Version: "v1.2.3"}, "\t" + Self + " v1.2.3\n", "replace"},
		{"replaced", Project{Version: "v1.2.3", Replace: "/src/etcd"},
			"replace " + Self + " => /src/etcd\n", "v1.2.3"},
		{"release for Connect", Project{Version: "v1.2.3", Connect: true},
			"\t" + Self + "/connectetcd v1.2.3\n", "replace"},
		{"replaced for Connect", Project{Replace: "/src/etcd", Connect: true},
			"replace " + Self + "/connectetcd => /src/etcd/connectetcd\n", "../.."},
		{"spaces", Project{Replace: "/my src/etcd"},
			"replace " + Self + " => \"/my src/etcd\"\n", "v1.2.3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.project.Module = "zoo.example/shop"
			files, err := tt.project.Files()
			must.Succeed(t, err)

			gomod := files["go.mod"]
			if !strings.HasPrefix(gomod, "module zoo.example/shop\n") ||
				!strings.Contains(gomod, tt.has) ||
				strings.Contains(gomod, tt.lacks) {
				t.Errorf("go.mod should have %q and not %q, and is\n%s", tt.has, tt.lacks, gomod)
			}

			for name, text := range files {
				ours := strings.HasSuffix(name, "/options.proto") // whose comments have an example
				if strings.Contains(text, "examples/quickstart") ||
					!ours && strings.Contains(name+text, "reeter") {
					t.Errorf("%s names the example:\n%s", name, text)
				}
			}

			// The imports are in order again.
			server := files["server/main.go"]
			own := strings.Index(server, `"zoo.example/shop/gen/shop/v1"`)
			if own < strings.Index(server, Self+"/runtime") {
				t.Errorf("server/main.go is not formatted:\n%s", server)
			}
		})
	}
}

func TestNames(t *testing.T) {
	// modules and keys as the arguments of init, and "SERVICE PACKAGE KEY", or a
	// part of the error
	for args, want := range map[string]string{
		"example.com/shop":                   "ShopService shop shop",
		"example.com/shop/v2":                "ShopService shop shop",
		"gopkg.in/shop.v1":                   "ShopService shop shop",
		"example.com/team/my.shop":           "MyShopService myshop my-shop",
		"example.com/web_shop~":              "WebShopService webshop web-shop",
		"example.com/WebShop":                "WebShopService webshop webshop",
		"example.com/order-service":          "OrderService orderservice order-service",
		"example.com/service":                "Service service service",
		"example.com/func":                   "FuncService func func",
		"example.com":                        "ExampleComService examplecom example-com",
		"example.com/backend acme/web-shop":  "WebShopService webshop acme/web-shop",
		"example.com/internal shop":          "ShopService shop shop",
		"example.com/3d":                     `"3d" cannot name a service`,
		"example.com/internal":               `"internal" cannot name a service`,
		"example.com/vendor/v2":              `"vendor" cannot name a service`,
		"example.com/___":                    `"___" cannot name a service`,
		"example.com/shop acme/con":          `"con" cannot name a service`,
		"example.com/shop acme~x/shop":       `KEY "acme~x/shop" `,
		"example.com/shop _grpc_config/shop": `service key "_grpc_config/shop" `,
		"shop":                               `"shop" cannot be the path`,
		"example.com/CON.x shop":             "cannot be the path",
		"example.com/a~1 shop":               "cannot be the path",
		"Example.com/a":                      "cannot be the path",
		"-a.com":                             "cannot be the path",
		"example.com//a":                     "cannot be the path",
		"example.com/a/":                     "cannot be the path",
		"example.com/.a":                     "cannot be the path",
	} {
		module, key, _ := strings.Cut(args, " ")
		names, err := Project{Module: module, Key: key}.Names()
		got := names.Service + " " + names.Package + " " + names.Key
		if err != nil {
			got = err.Error()
		}

		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("init %s: %s, want %s", args, got, want)
		}
	}
}
