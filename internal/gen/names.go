package gen

import (
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
)

// The exported names of generated code. The first four are ours.
func descName(s *protogen.Service) string            { return s.GoName + "_EtcdServiceDesc" }
func newClientName(s *protogen.Service) string       { return "New" + s.GoName + "ClientFromEtcd" }
func registerName(s *protogen.Service) string        { return "Register" + s.GoName + "ServerToEtcd" }
func registerHandlerName(s *protogen.Service) string { return "Register" + s.GoName + "HandlerToEtcd" }

func clientName(s *protogen.Service) string { return s.GoName + "Client" }
func serverName(s *protogen.Service) string { return s.GoName + "Server" }

// handlerName is the name that protoc-gen-connect-go gives a server.
func handlerName(s *protogen.Service) string { return s.GoName + "Handler" }

// affinityClientName and plainClientName are not exported. No other generated name has an underscore
// before a small letter, so they collide with none.
func affinityClientName(s *protogen.Service) string { return unexported(s) + "_affinityClient" }
func plainClientName(s *protogen.Service) string    { return unexported(s) + "_plainClient" }

func unexported(s *protogen.Service) string { return strings.ToLower(s.GoName[:1]) + s.GoName[1:] }
