package gen

import (
	"fmt"
	"go/token"
	"path"
	"regexp"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// These are the parameters that other Go plugins lack. suffixParameter selects
// a separate package for generated code, as it does for protoc-gen-connect-go.
// With connectParameter, both plugins must get the same suffix.
const (
	suffixParameter  = "package_suffix"
	connectParameter = "connect"
)

// connectSuffix is protoc-gen-connect-go's default suffix of packages.
const connectSuffix = "connect"

// A target describes which plugin's code the generated code accompanies, and
// which package has the generated code.
type target struct {
	// whether the code accompanies protoc-gen-connect-go's code, instead of
	// protoc-gen-go-grpc's
	connect bool

	// the suffix of the package; "" selects the package of protoc-gen-go's code
	suffix string
}

// An output is the package and the file of the code generated for a proto file.
type output struct {
	filename    string
	packageName protogen.GoPackageName
	importPath  protogen.GoImportPath
}

// output returns the output for a file: in the package of protoc-gen-go's code
// or, with a suffix, in a package below that package.
func (t target) output(file *protogen.File) output {
	if t.connect {
		return t.place(file, "_etcd.connect.go")
	}

	return t.place(file, "_etcd.pb.go")
}

func (t target) place(file *protogen.File, extension string) output {
	if t.suffix == "" {
		return output{
			filename:    file.GeneratedFilenamePrefix + extension,
			packageName: file.GoPackageName,
			importPath:  file.GoImportPath,
		}
	}

	dir, base := path.Split(file.GeneratedFilenamePrefix)
	name := string(file.GoPackageName) + t.suffix

	return output{
		filename:    path.Join(dir, name, base+extension),
		packageName: protogen.GoPackageName(name),
		importPath:  protogen.GoImportPath(path.Join(string(file.GoImportPath), name)),
	}
}

// checkPackages reports packages of the output that cannot be imported, that
// cannot import the messages, or that have the import path of another proto
// file's package.
func checkPackages(
	files []*protogen.File,
	services map[*protogen.File][]*service,
	target target,
) {
	if target.suffix == "" {
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

		to := target.output(file)
		at := services[file][0].position
		other := byPath[to.importPath]

		switch {
		case !importable(string(to.packageName)):
			at.problem("is generated into a Go package with the name %s, which cannot be imported: set another %s",
				to.packageName, suffixParameter)
		case file.GoPackageName == "main":
			at.problem("is generated into the Go package %s, which cannot import the messages, because their package is main: give them another go_package",
				to.packageName)
		case other != nil:
			at.problem("is generated into the Go package %s, which is that of %s: set another %s",
				printable.Text(string(to.importPath)), pathText(other), suffixParameter)
		}
	}
}

// checkNames reports exported names of our code that protoc-gen-go declares as
// well.
func checkNames(
	files []*protogen.File,
	services map[*protogen.File][]*service,
	to target,
) {
	declared := make(map[protogen.GoIdent]protoreflect.Descriptor)
	for _, file := range files {
		declare(declared, file.Enums, file.Messages, file.Extensions)
	}

	register := registerName
	if to.connect {
		register = registerHandlerName
	}

	for file, all := range services {
		if !file.Generate {
			continue
		}

		importPath := to.output(file).importPath
		for _, s := range all {
			names := []string{
				descName(s.proto),
				newClientName(s.proto),
				register(s.proto),
			}
			for _, name := range names {
				other := declared[importPath.Ident(name)]
				if other != nil {
					s.position.problem(
						"gets code with the Go name %s, which %s has: rename one of them",
						name, other.FullName())
				}
			}
		}
	}
}

// declare adds the Go types, constants and variables of enums, messages and
// extensions.
func declare(
	all map[protogen.GoIdent]protoreflect.Descriptor,
	enums []*protogen.Enum,
	messages []*protogen.Message,
	extensions []*protogen.Extension,
) {
	for _, x := range extensions {
		all[x.GoIdent.GoImportPath.Ident("E_"+x.GoIdent.GoName)] = x.Desc
	}

	for _, e := range enums {
		all[e.GoIdent] = e.Desc
		for _, v := range e.Values {
			all[v.GoIdent] = v.Desc
		}
	}

	for _, m := range messages {
		all[m.GoIdent] = m.Desc
		for _, f := range m.Fields {
			if f.Oneof != nil && !f.Oneof.Desc.IsSynthetic() {
				all[f.GoIdent] = f.Desc
			}
		}

		declare(all, m.Enums, m.Messages, m.Extensions)
	}
}

// importable reports whether a package with this name can be imported from a
// directory with the same name. Package main is a program. The go command
// ignores the name documentation, and treats internal and vendor specially.
func importable(name string) bool {
	switch name {
	case "main", "documentation", "internal", "vendor":
		return false
	}

	return token.IsIdentifier(name) // false for a keyword
}

// suffixText matches the valid values of the parameter package_suffix.
var suffixText = regexp.MustCompile(`^[A-Za-z0-9_]*$`)

// parameters holds the parameters that other Go plugins lack.
type parameters struct {
	connect bool
	suffix  *string // nil if not given
}

// target returns the target that the parameters select.
func (p *parameters) target() target {
	t := target{connect: p.connect}

	switch {
	case p.suffix != nil:
		t.suffix = *p.suffix
	case p.connect:
		t.suffix = connectSuffix
	}

	return t
}

// set sets a parameter that protogen does not know.
func (p *parameters) set(name, value string) error {
	switch name {
	case connectParameter:
		switch value {
		case "", "true":
			p.connect = true
		case "false":
			p.connect = false
		default:
			return fmt.Errorf("%s=%s: want true or false", connectParameter, value)
		}

	case suffixParameter:
		if !suffixText.MatchString(value) {
			return fmt.Errorf("%s=%s: want ASCII letters, digits and underscores, as in the name of a Go package",
				suffixParameter, value)
		}

		p.suffix = &value

	default:
		return fmt.Errorf("unknown parameter %q: want %s, %s, or a parameter of every Go plugin: paths, module, M",
			name, connectParameter, suffixParameter)
	}

	return nil
}
