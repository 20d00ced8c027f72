// Command sbom writes, for each module that others depend on, what it links:
//
//	OUT/NAME.cdx.json      an SBOM in CycloneDX: modules, versions, licences
//	OUT/NAME.licenses.csv  a line for each module: name, version, licence
//
// The modules are found by cyclonedx-gomod and the licences by go-licenses, which reads the texts that came
// with the modules. A module that is linked but not in the SBOM, or whose licence is not among the allowed
// ones, is an error. The same commit gives the same bytes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/command"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/modules"
	"github.com/etcdrpc/protoc-gen-go-etcd/tools/release/internal/workspace"
)

// allowed are the licences that a linked module may have.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

func main() {
	log.SetFlags(0)
	log.SetPrefix("sbom: ")
	root := flag.String("root", "../..", "the repository")
	out := flag.String("out", "../../dist", "the directory to write to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *root, *out); err != nil {
		stop()
		log.Fatal(err)
	}
}

func run(ctx context.Context, root, out string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, published := range modules.All {
		m := module{root: root, dir: filepath.Join(root, published.Dir), out: out, name: published.Name()}
		if err := m.write(ctx); err != nil {
			return fmt.Errorf("%s: %w", published.Dir, err)
		}
	}
	return nil
}

// module is a module to describe.
type module struct{ root, dir, out, name string }

func (m module) write(ctx context.Context) error {
	linked, err := m.linked(ctx)
	if err != nil {
		return err
	}
	licenses, err := m.licenses(ctx, linked)
	if err != nil {
		return err
	}
	bom, err := m.bom(ctx, linked, licenses)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, l := range linked {
		fmt.Fprintf(&list, "%s,%s,%s\n", l.path, l.version, strings.Join(licenses[l.path], " "))
	}
	file := filepath.Join(m.out, m.name)
	fmt.Printf("%s: %d modules\n", file+".cdx.json", len(linked))
	return errors.Join(os.WriteFile(file+".cdx.json", bom, 0o644), os.WriteFile(file+".licenses.csv", []byte(list.String()), 0o644))
}

// version is a module that is linked.
type version struct{ path, version string }

// linked returns the modules whose packages the module's packages import, in order.
func (m module) linked(ctx context.Context) ([]version, error) {
	env, err := workspace.Env(m.dir)
	if err != nil {
		return nil, err
	}
	out, err := command.Run(ctx, m.dir, env, "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./...")
	if err != nil {
		return nil, err
	}
	var all []version
	for line := range strings.Lines(string(out)) {
		path, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path != "" && !strings.HasPrefix(path, modules.Root) {
			all = append(all, version{path, v})
		}
	}
	slices.SortFunc(all, func(a, b version) int { return strings.Compare(a.path, b.path) })
	return slices.Compact(all), nil
}

// licenses returns the licences of each module that is linked.
func (m module) licenses(ctx context.Context, linked []version) (map[string][]string, error) {
	template := filepath.Join(m.root, "tools", "release", "sbom", "licenses.tmpl")
	out, err := m.tool(ctx, "go-licenses", "report", "--ignore", modules.Root, "--template", template, "./...")
	if err != nil {
		return nil, err
	}
	found := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		// The name is the module's or, where the licence's file is below it, a folder's.
		name, license, ok := strings.Cut(strings.TrimSpace(line), ",")
		if !ok {
			continue
		}
		if path := owner(linked, name); !slices.Contains(found[path], license) {
			found[path] = append(found[path], license)
		}
	}
	for _, l := range linked {
		if len(found[l.path]) == 0 {
			return nil, fmt.Errorf("%s has no licence that go-licenses finds", l.path)
		}
		for _, license := range found[l.path] {
			if !slices.Contains(allowed, license) {
				return nil, fmt.Errorf("%s has the licence %s, which is not among the allowed ones: %s", l.path, license, strings.Join(allowed, ", "))
			}
		}
	}
	return found, nil
}

// owner returns the path of the module that a folder is in, "" if it is in none.
func owner(linked []version, folder string) (path string) {
	for _, l := range linked {
		if strings.HasPrefix(folder+"/", l.path+"/") && len(l.path) > len(path) {
			path = l.path
		}
	}
	return path
}

// bom returns the SBOM, with licences.
func (m module) bom(ctx context.Context, linked []version, licenses map[string][]string) ([]byte, error) {
	// With -test, because cyclonedx-gomod takes a module for one of tests alone if a test imports it, too.
	out, err := m.tool(ctx, "cyclonedx-gomod", "mod", "-json", "-type", "library", "-test", "-short-purls", "-noserial", "-notimestamp", ".")
	if err != nil {
		return nil, err
	}
	var bom map[string]any
	if err := json.Unmarshal(out, &bom); err != nil {
		return nil, err
	}
	lacking := make(map[version]bool)
	for _, l := range linked {
		lacking[l] = true
	}
	dropped := make(map[any]bool) // references
	bom["components"] = keep(bom["components"], func(component map[string]any) bool {
		path, _ := component["name"].(string)
		v, _ := component["version"].(string)
		own := strings.HasPrefix(path, modules.Root)
		if !own && !lacking[version{path, v}] {
			dropped[component["bom-ref"]] = true
			return false
		}
		if own {
			delete(component, "hashes") // of a directory, with whatever else is there
		}
		component["scope"] = "required"
		var list []any
		for _, license := range licenses[path] {
			list = append(list, map[string]any{"license": map[string]string{"id": license}})
		}
		if list != nil {
			component["licenses"] = list
		}
		delete(lacking, version{path, v})
		return true
	})
	for l := range lacking {
		return nil, fmt.Errorf("the SBOM lacks %s %s", l.path, l.version)
	}
	bom["dependencies"] = keep(bom["dependencies"], func(d map[string]any) bool {
		if on, ok := d["dependsOn"].([]any); ok {
			d["dependsOn"] = slices.DeleteFunc(on, func(ref any) bool { return dropped[ref] })
		}
		return !dropped[d["ref"]]
	})
	return json.MarshalIndent(bom, "", "  ")
}

// keep returns the objects of a JSON array for which ok returns true.
func keep(array any, ok func(object map[string]any) bool) []any {
	all, _ := array.([]any)
	return slices.DeleteFunc(all, func(element any) bool {
		object, _ := element.(map[string]any)
		return !ok(object)
	})
}

// tool runs a pinned tool in the module's directory. It looks it up elsewhere, since the go command accepts no -modfile
// beside a go.work.
func (m module) tool(ctx context.Context, name string, args ...string) ([]byte, error) {
	file, err := command.Run(ctx, filepath.Join(m.root, "tools", "release"), []string{"GOWORK=off"}, "go", "tool", "-n", name)
	if err != nil {
		return nil, err
	}
	env, err := workspace.Env(m.dir)
	if err != nil {
		return nil, err
	}
	return command.Run(ctx, m.dir, env, strings.TrimSpace(string(file)), args...)
}
