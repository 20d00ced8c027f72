package gen

import (
	"fmt"
	"go/token"
	"path"
	"regexp"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// suffixParameter is the parameter that puts generated code into a package of its own, as it does for
// protoc-gen-connect-go.
const suffixParameter = "package_suffix"

// An output is where the code generated for a file goes.
type output struct {
	filename    string
	packageName protogen.GoPackageName
	importPath  protogen.GoImportPath
}

// outputOf returns the output of a file: in the package of protoc-gen-go's code or, with a suffix, in a package below it.
func outputOf(file *protogen.File, suffix string) output {
	const extension = "_etcd.pb.go"
	if suffix == "" {
		return output{file.GeneratedFilenamePrefix + extension, file.GoPackageName, file.GoImportPath}
	}
	dir, base := path.Split(file.GeneratedFilenamePrefix)
	name := string(file.GoPackageName) + suffix
	return output{
		filename:    path.Join(dir, name, base+extension),
		packageName: protogen.GoPackageName(name),
		importPath:  protogen.GoImportPath(path.Join(string(file.GoImportPath), name)),
	}
}

// checkPackages notes the packages of the output that nobody could import, or that would be in the directory of another one.
func checkPackages(files []*protogen.File, services map[*protogen.File][]*service, suffix string) {
	if suffix == "" {
		return
	}
	byPath := make(map[protogen.GoImportPath]*protogen.File, len(files))
	for _, file := range files {
		byPath[file.GoImportPath] = file
	}
	for _, file := range files {
		if !file.Generate || len(services[file]) == 0 {
			continue
		}
		to, at := outputOf(file, suffix), services[file][0].position
		if !importable(string(to.packageName)) {
			at.problem("is generated into a Go package with the name %s, which nobody could import: set another %s", to.packageName, suffixParameter)
		} else if other := byPath[to.importPath]; other != nil {
			at.problem("is generated into the Go package %s, which is that of %s: set another %s",
				printable.Text(string(to.importPath)), pathText(other), suffixParameter)
		}
	}
}

// importable reports whether a package below another one, in a directory of its name, can be imported.
func importable(name string) bool {
	switch name {
	case "main", "documentation": // a program, and what the go command ignores
		return false
	case "internal", "vendor": // directories with a meaning
		return false
	}
	return token.IsIdentifier(name) // not a keyword
}

// suffixText matches the suffixes that an import path may have.
var suffixText = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

// parameters are the parameters that other Go plugins do not have.
type parameters struct {
	packageSuffix string
}

// set sets a parameter that protogen does not know.
func (p *parameters) set(name, value string) error {
	if name != suffixParameter {
		return fmt.Errorf("unknown parameter %q: want %s, or a parameter of every Go plugin: paths, module, M", name, suffixParameter)
	}
	if !suffixText.MatchString(value) {
		return fmt.Errorf("%s=%s: want ASCII letters, digits and underscores, as in the name of a Go package", suffixParameter, value)
	}
	p.packageSuffix = value
	return nil
}
