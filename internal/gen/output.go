package gen

import (
	"fmt"
	"go/token"
	"path"

	"google.golang.org/protobuf/compiler/protogen"
)

// suffixParameter is the parameter that has the code written to a package of its own. It means what it means to
// protoc-gen-connect-go.
const suffixParameter = "package_suffix"

// An output is where the code for a file goes.
type output struct {
	filename    string
	packageName protogen.GoPackageName
	importPath  protogen.GoImportPath
}

// outputOf returns where the code for a file goes: beside that of the other plugins or, with a suffix, into a package
// below that one.
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

// parameters are those of the plugin's own.
type parameters struct {
	packageSuffix string
}

// set is called with each parameter that is not one of every Go plugin.
func (p *parameters) set(name, value string) error {
	if name != suffixParameter {
		return fmt.Errorf("unknown parameter %q: there are those of every Go plugin (paths, module, M), %s and no others", name, suffixParameter)
	}
	if value != "" && !token.IsIdentifier("x"+value) {
		return fmt.Errorf("%s=%s: want letters, digits and underscores, which a Go package may end in", suffixParameter, value)
	}
	p.packageSuffix = value
	return nil
}
