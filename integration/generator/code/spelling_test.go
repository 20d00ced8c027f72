package code

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinity"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityapi"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityproto2"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/oldgrpc"
)

// affinities maps calls to the affinities that they should have. A call is a
// method and, after a space, its request in the text format, or noRequest.
type affinities map[string]string

// noRequest stands for a request that is a nil pointer.
const noRequest = "nil"

// TestSpelling checks which text is the affinity for a value of a field. An
// unset, empty or zero field gives no affinity.
func TestSpelling(t *testing.T) {
	c := newCalls(t)
	for _, service := range []struct {
		client any
		want   affinities
	}{
		{clientOf(t, c, affinity.NewKindsClientFromEtcd), kinds()},
		{clientOf(t, c, affinity.NewPlacesClientFromEtcd), places},
		{clientOf(t, c, affinityproto2.NewDefaultsClientFromEtcd), defaults},
		{clientOf(t, c, affinityapi.NewOpaqueClientFromEtcd), levels},
		{clientOf(t, c, affinityapi.NewHybridClientFromEtcd), levels},
		{clientOf(t, c, oldgrpc.NewServiceClientFromEtcd), older},
	} {
		for call, want := range service.want {
			err := invoke(t.Context(), service.client, call)
			if err != nil || c.affinity != want {
				t.Errorf("%T, %s: affinity %q, error %v, want %q",
					service.client, call, c.affinity, err, want)
			}

			if want == "" {
				continue
			}

			err = invoke(runtime.WithAffinity(t.Context(), "the caller's"), service.client, call)
			if err != nil || c.affinity != "the caller's" {
				t.Errorf("%T, %s: affinity %q, error %v, want \"the caller's\", as in the context",
					service.client, call, c.affinity, err)
			}
		}
	}
}

// invoke makes a call by a client. The method may stream.
func invoke(ctx context.Context, client any, call string) error {
	name, text, _ := strings.Cut(call, " ")
	method := reflect.ValueOf(client).MethodByName(name)
	in := []reflect.Value{reflect.ValueOf(ctx)}

	if typ := method.Type(); typ.NumIn() == 3 { // with a request before the options
		request := reflect.Zero(typ.In(1))
		if text != noRequest {
			request = reflect.New(typ.In(1).Elem())
			options := prototext.UnmarshalOptions{AllowPartial: true} // no request is sent

			err := options.Unmarshal([]byte(text), request.Interface().(proto.Message))
			if err != nil {
				return err
			}
		}

		in = append(in, request)
	}

	err, _ := method.Call(in)[1].Interface().(error)

	return err
}

// kinds has three calls for each kind of field: with a value, with an empty
// request, and without a request.
func kinds() affinities {
	all := affinities{}
	const full = `string: "Ключ \n" bytes: "\000\377x" bool: true enum: ENUM_LESS int32: -2147483648 int64: -9223372036854775808 ` +
		`uint32: 4294967295 uint64: 18446744073709551615 sint32: -3 sint64: -4 fixed32: 4294967294 fixed64: 18446744073709551614 sfixed32: -5 sfixed64: -6`
	for method, want := range map[string]string{
		"String":   "Ключ \n",
		"Bytes":    "\x00\xffx",
		"Bool":     "true",
		"Enum":     "-1",
		"Int32":    "-2147483648",
		"Int64":    "-9223372036854775808",
		"Uint32":   "4294967295",
		"Uint64":   "18446744073709551615",
		"Sint32":   "-3",
		"Sint64":   "-4",
		"Fixed32":  "4294967294",
		"Fixed64":  "18446744073709551614",
		"Sfixed32": "-5",
		"Sfixed64": "-6",
	} {
		all[method+" "+full] = want
		all[method] = ""
		all[method+" "+noRequest] = ""
	}

	return all
}

var places = affinities{
	"Nested user { id: 1 parent { id: 2 } }": "2",
	"Nested user { id: 1 }":                  "",
	"Nested":                                 "",
	"Nested " + noRequest:                    "",
	"Optional optional: 7":                   "7",
	"Optional optional: 0":                   "",
	"Optional":                               "",
	`Oneof name: "n"`:                        "n",
	`Oneof name: ""`:                         "",
	"Oneof owner { id: 1 }":                  "",
	"InOneof owner { id: 9 }":                "9",
	`InOneof name: "n"`:                      "",
	`Renamed string: "no" get_string: "yes"`: "yes",
	`Elsewhere name: "n"`:                    "n",
	`Old old: "o"`:                           "o",
	"List user { id: 5 }":                    "5",
	"List":                                   "",
	"Plain user { id: 5 }":                   "",
	"Chat":                                   "", // has no request
}

// defaults has calls with a field that is unset, set to its default, or set to
// another value.
var defaults = affinities{
	`String string: "some"`:                   "some",
	`String string: "none"`:                   "",
	"String":                                  "",
	`Bytes bytes: "none"`:                     "",
	"Bool bool: false":                        "",
	"Number Part { number: -8 }":              "-8",
	"Number Part { number: -7 }":              "",
	"Number":                                  "",
	"Enum enum: ENUM_TWO":                     "2",
	"Enum enum: ENUM_ONE":                     "",
	`Oneof name: "somebody"`:                  "somebody",
	`Oneof name: "nobody"`:                    "",
	"Oneof id: 1":                             "",
	"Unsigned unsigned: 18446744073709551614": "18446744073709551614",
	"GetX get_x: ENUM_ONE":                    "1",
	`X x { string: "\377\n" }`:                "\xff\n",
	`X x { string: "a\"b\n\377" }`:            "",
	"X":                                       "",
	"Required required: 3":                    "3",
}

// levels has the calls for the opaque and the hybrid API.
var levels = affinities{
	"Field number: 1":                 "1",
	"Field":                           "",
	`Nested user { id: "u" }`:         "u",
	"Nested user {}":                  "",
	"Nested":                          "",
	`Oneof name: "n"`:                 "n",
	"Oneof id: 1":                     "",
	`Default user { team: "one" }`:    "one",
	"Default user {}":                 "",
	"Renamed number: 1 get_number: 2": "2",
}

var older = affinities{
	`Get id: "1"`:  "1",
	`List id: "2"`: "2",
	"List":         "",
}
