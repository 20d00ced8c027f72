package gen

import (
	"fmt"
	"go/token"
	"path"

	"google.golang.org/protobuf/compiler/protogen"
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

// parameters are the parameters that other Go plugins do not have.
type parameters struct {
	packageSuffix string
}

// set sets a parameter that protogen does not know.
func (p *parameters) set(name, value string) error {
	if name != suffixParameter {
		return fmt.Errorf("unknown parameter %q: want %s, or a parameter of every Go plugin: paths, module, M", name, suffixParameter)
	}
	if value != "" && !token.IsIdentifier("x"+value) {
		return fmt.Errorf("%s=%s: want letters, digits and underscores, as in the name of a Go package", suffixParameter, value)
	}
	p.packageSuffix = value
	return nil
}
