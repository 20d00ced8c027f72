package runtime

import (
	"reflect"

	"google.golang.org/grpc"
)

// serverDepth bounds the search for a gRPC server within another value. *xds.GRPCServer has it in a field that
// holds an interface.
const serverDepth = 2

// isServing reports whether s, a *grpc.Server or a wrapper of one, has begun to serve. From then on registering a
// service makes gRPC end the process, and no method of the server tells beforehand, so isServing reads a field.
// Otherwise the health service that Server adds would end the process of a program that merely serves a
// second listener. It looks without the lock. Only a program that registers services while it calls Serve can notice, which
// gRPC forbids. isServing reports false for a server that it finds no such field in: then gRPC ends the process, and
// says why. TestIsServing fails if gRPC keeps its state elsewhere.
func isServing(s any) bool {
	server := findServer(reflect.ValueOf(s), serverDepth)
	if !server.IsValid() {
		return false
	}
	serving := server.FieldByName("serve")
	return serving.IsValid() && serving.Kind() == reflect.Bool && serving.Bool()
}

var serverType = reflect.TypeFor[grpc.Server]()

// findServer returns the gRPC server in v, or the zero Value if there is none.
func findServer(v reflect.Value, depth int) reflect.Value {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		v = v.Elem()
	}
	if !v.IsValid() || v.Type() == serverType {
		return v
	}
	if v.Kind() != reflect.Struct || depth == 0 {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		if kind := v.Field(i).Kind(); kind != reflect.Pointer && kind != reflect.Interface {
			continue
		}
		if found := findServer(v.Field(i), depth-1); found.IsValid() {
			return found
		}
	}
	return reflect.Value{}
}
