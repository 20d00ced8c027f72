package gen

import (
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
)

// These are the exported names of generated code. The first four are ours.
func descName(s *protogen.Service) string            { return s.GoName + "_EtcdServiceDesc" }
func newClientName(s *protogen.Service) string       { return "New" + s.GoName + "ClientFromEtcd" }
func registerName(s *protogen.Service) string        { return "Register" + s.GoName + "ServerToEtcd" }
func registerHandlerName(s *protogen.Service) string { return "Register" + s.GoName + "HandlerToEtcd" }

func clientName(s *protogen.Service) string { return s.GoName + "Client" }
func serverName(s *protogen.Service) string { return s.GoName + "Server" }

// handlerName returns the name of a server in the code of protoc-gen-connect-go.
func handlerName(s *protogen.Service) string { return s.GoName + "Handler" }

// affinityClientName and plainClientName are unexported. No other generated name has an underscore
// before a lower-case letter, so they collide with none.
func affinityClientName(s *protogen.Service) string { return unexported(s) + "_affinityClient" }
func plainClientName(s *protogen.Service) string    { return unexported(s) + "_plainClient" }

func unexported(s *protogen.Service) string { return strings.ToLower(s.GoName[:1]) + s.GoName[1:] }
