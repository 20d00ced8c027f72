package gen

import (
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/gofeaturespb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// The exported names of generated code. The first four are ours, of which each target has three.
func descName(s *protogen.Service) string            { return s.GoName + "_EtcdServiceDesc" }
func newClientName(s *protogen.Service) string       { return "New" + s.GoName + "ClientFromEtcd" }
func registerName(s *protogen.Service) string        { return "Register" + s.GoName + "ServerToEtcd" }
func registerHandlerName(s *protogen.Service) string { return "Register" + s.GoName + "HandlerToEtcd" }

func clientName(s *protogen.Service) string { return s.GoName + "Client" }
func serverName(s *protogen.Service) string { return s.GoName + "Server" }

// handlerName is the name that protoc-gen-connect-go gives a server.
func handlerName(s *protogen.Service) string { return s.GoName + "Handler" }

func (t target) registerName(s *protogen.Service) string {
	if t.connect {
		return registerHandlerName(s)
	}
	return registerName(s)
}

// affinityClientName and plainClientName are not exported. No other generated name has an underscore
// before a small letter, so they collide with none.
func affinityClientName(s *protogen.Service) string { return unexported(s) + "_affinityClient" }
func plainClientName(s *protogen.Service) string    { return unexported(s) + "_plainClient" }

func unexported(s *protogen.Service) string { return strings.ToLower(s.GoName[:1]) + s.GoName[1:] }

// A claim is a name in a Go package that belongs to the code generated for a service.
type claim struct {
	ours     bool     // the service has the option, so it is for us to say what collides
	position position // of the service, or of the method that the name comes from
}

// claims holds the claims of one Go package, by name.
type claims map[string]claim

// checkNames notes names that would not compile: names of this plugin and of
// the one beside whose code it writes that collide with each other or with protoc-gen-go's. The code of a
// Go package may come from several files, imported ones among them.
func checkNames(files []*protogen.File, services map[*protogen.File][]*service, to target, problems *problems) {
	packages := make(map[protogen.GoImportPath]claims)
	for _, file := range files {
		if file.Generate && len(services[file]) > 0 {
			packages[file.GoImportPath] = claims{}
			packages[to.output(file).importPath] = claims{}
		}
	}
	for _, file := range files {
		if claimed := packages[file.GoImportPath]; claimed != nil {
			output := packages[to.output(file).importPath]
			if to.connect {
				claimed = output
			}
			claimed.addServices(file, services[file], to, output, problems)
		}
	}
	for _, file := range files {
		if claimed := packages[file.GoImportPath]; claimed != nil {
			claimed.compareWith(file)
		}
	}
	checkFileNames(files, services, to)
	checkPackages(files, services, to)
}

// addServices claims the names of the services of a file, those of this plugin in the package of its output.
func (c claims) addServices(file *protogen.File, withOption []*service, to target, output claims, problems *problems) {
	ours := make(map[*protogen.Service]bool, len(withOption))
	for _, s := range withOption {
		ours[s.proto] = file.Generate
	}
	for _, s := range file.Services {
		c.addService(file, s, ours[s], to, output, problems)
	}
}

// addService claims the names of a service. Of those that another one has claimed, only
// the first is a problem: the others follow from it.
func (c claims) addService(file *protogen.File, s *protogen.Service, ours bool, to target, output claims, problems *problems) {
	at := positionOf(problems, file, s.Desc, s.Location)
	for _, name := range to.serviceNames(s) {
		if !c.add(name, claim{ours, at}) {
			return
		}
	}
	if ours {
		for _, name := range []string{descName(s), newClientName(s), to.registerName(s)} {
			if !output.add(name, claim{ours, at}) {
				return
			}
		}
	}
	for _, m := range s.Methods {
		at := positionOf(problems, file, m.Desc, m.Location)
		for _, name := range to.methodNames(s, m) {
			if !c.add(name, claim{ours, at}) {
				return
			}
		}
	}
}

// serviceNames returns the names that the other plugin generates for a service.
func (t target) serviceNames(s *protogen.Service) []string {
	if t.connect {
		return []string{clientName(s), "New" + clientName(s), handlerName(s), "New" + handlerName(s), "Unimplemented" + handlerName(s),
			string(s.Desc.Name()) + "Name"}
	}
	return []string{clientName(s), serverName(s), "New" + clientName(s), "Register" + serverName(s),
		"Unimplemented" + serverName(s), "Unsafe" + serverName(s), s.GoName + "_ServiceDesc"}
}

// methodNames returns the names that the other plugin generates for a method.
func (t target) methodNames(s *protogen.Service, m *protogen.Method) []string {
	if t.connect {
		return []string{s.GoName + m.GoName + "Procedure"}
	}
	prefix := s.GoName + "_" + m.GoName
	names := []string{prefix + "_FullMethodName"}
	if m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer() {
		names = append(names, prefix+"Client", prefix+"Server")
	}
	return names
}

// add claims a name, or notes a problem where another service has.
func (c claims) add(name string, later claim) bool {
	earlier, taken := c[name]
	if !taken {
		c[name] = later
		return true
	}
	at, other := later, earlier
	if !at.ours {
		at, other = earlier, later
	}
	if at.ours {
		at.position.problem("gets the Go name %s, and so does %v: rename one of them", name, other.position)
	}
	return false
}

// compareWith notes the claimed names that protoc-gen-go gives what is in a file.
func (c claims) compareWith(file *protogen.File) {
	for _, enum := range file.Enums {
		c.compareEnum(file, enum)
	}
	for _, extension := range file.Extensions {
		c.compare(file, "E_"+extension.GoIdent.GoName, "extension", extension.Desc, extension.Location)
	}
	for _, message := range file.Messages {
		c.compareMessage(file, message)
	}
}

func (c claims) compareMessage(file *protogen.File, message *protogen.Message) {
	if message.Desc.IsMapEntry() {
		return
	}
	c.compare(file, message.GoIdent.GoName, "message", message.Desc, message.Location)
	for _, field := range message.Fields {
		if field.Oneof != nil && !field.Oneof.Desc.IsSynthetic() && message.APILevel != gofeaturespb.GoFeatures_API_OPAQUE {
			c.compare(file, field.GoIdent.GoName, "field", field.Desc, field.Location)
		}
		if field.Desc.HasDefault() {
			c.compare(file, "Default_"+message.GoIdent.GoName+"_"+field.GoName, "field", field.Desc, field.Location)
		}
	}
	for _, extension := range message.Extensions {
		c.compare(file, "E_"+extension.GoIdent.GoName, "extension", extension.Desc, extension.Location)
	}
	for _, enum := range message.Enums {
		c.compareEnum(file, enum)
	}
	for _, nested := range message.Messages {
		c.compareMessage(file, nested)
	}
}

func (c claims) compareEnum(file *protogen.File, enum *protogen.Enum) {
	c.compare(file, enum.GoIdent.GoName, "enum", enum.Desc, enum.Location)
	for _, value := range enum.Values {
		c.compare(file, value.GoIdent.GoName, "enum value", value.Desc, value.Location)
		if alias := value.PrefixedAlias.GoName; alias != "" {
			c.compare(file, alias, "enum value", value.Desc, value.Location)
		}
	}
}

// compare notes a problem where a service has claimed the Go name of what is
// declared at a location.
func (c claims) compare(file *protogen.File, name, kind string, declared protoreflect.Descriptor, location protogen.Location) {
	claim, taken := c[name]
	if !taken || !claim.ours {
		return
	}
	other := positionOf(claim.position.problems, file, declared, location)
	claim.position.problem("gets the Go name %s, and so does the %s %v: rename one of them", name, kind, other)
}

// checkFileNames notes the files that would have the name of another one: of two files
// whose output goes to one directory under one name, and of x.proto beside
// x_etcd.proto, for which protoc-gen-go writes x_etcd.pb.go, and protoc-gen-connect-go x_etcd.connect.go.
func checkFileNames(files []*protogen.File, services map[*protogen.File][]*service, to target) {
	byPrefix := make(map[string]*protogen.File, len(files))
	for _, file := range files {
		first := byPrefix[file.GeneratedFilenamePrefix]
		if first == nil {
			byPrefix[file.GeneratedFilenamePrefix] = file
			continue
		}
		if !sameFile(file, first, services, to) {
			sameFile(first, file, services, to)
		}
	}
	others := make(map[string]*protogen.File, len(files))
	for _, file := range files {
		if name := to.otherFile(file); name != "" {
			others[name] = file
		}
	}
	for _, file := range files {
		if other := others[to.output(file).filename]; other != nil {
			sameFile(file, other, services, to)
		}
	}
}

// sameFile notes, and reports, that our output for a file would overwrite the output for
// another one.
func sameFile(file, other *protogen.File, services map[*protogen.File][]*service, to target) bool {
	if !file.Generate || len(services[file]) == 0 {
		return false
	}
	services[file][0].position.problem("is generated into %s, as code for %s is: rename one of the files",
		printable.Text(to.output(file).filename), pathText(other))
	return true
}
