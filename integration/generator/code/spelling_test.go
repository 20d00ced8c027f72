package code

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinity"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityapi"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinityproto2"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/oldgrpc"
)

// A row is a call and the affinity that it should have.
type row struct {
	name string
	call func(context.Context) error
	want string
}

// TestSpelling checks which text is the affinity for a value of a field. An unset, empty or zero field gives no affinity.
func TestSpelling(t *testing.T) {
	c := newCalls(t)
	for name, rows := range map[string][]row{
		"kinds":    kinds(clientOf(t, c, affinity.NewKindsClientFromEtcd)),
		"places":   places(clientOf(t, c, affinity.NewPlacesClientFromEtcd)),
		"defaults": defaults(clientOf(t, c, affinityproto2.NewDefaultsClientFromEtcd)),
		"opaque":   opaque(clientOf(t, c, affinityapi.NewOpaqueClientFromEtcd)),
		"hybrid":   hybrid(clientOf(t, c, affinityapi.NewHybridClientFromEtcd)),
		"oldgrpc":  older(clientOf(t, c, oldgrpc.NewServiceClientFromEtcd)),
	} {
		for _, row := range rows {
			if err := row.call(t.Context()); err != nil || c.affinity != row.want {
				t.Errorf("%s, %s: affinity %q, error %v, want %q", name, row.name, c.affinity, err, row.want)
			}
			if row.want == "" {
				continue
			}
			if err := row.call(runtime.WithAffinity(t.Context(), "the caller's")); err != nil || c.affinity != "the caller's" {
				t.Errorf("%s, %s: affinity %q, error %v, want \"the caller's\", as in the context", name, row.name, c.affinity, err)
			}
		}
	}
}

func kinds(c affinity.KindsClient) []row {
	full := &affinity.Request{
		String_: "Ключ \n", Bytes: []byte{0, 0xff, 'x'}, Bool: true, Enum: affinity.Enum_ENUM_LESS,
		Int32: -1 << 31, Int64: -1 << 63, Uint32: 1<<32 - 1, Uint64: 1<<64 - 1, Sint32: -3, Sint64: -4,
		Fixed32: 1<<32 - 2, Fixed64: 1<<64 - 2, Sfixed32: -5, Sfixed64: -6,
	}
	var rows []row
	for _, kind := range []struct {
		name   string
		method func(context.Context, *affinity.Request, ...grpc.CallOption) (*emptypb.Empty, error)
		want   string
	}{
		{"string", c.String, "Ключ \n"},
		{"bytes", c.Bytes, "\x00\xffx"},
		{"bool", c.Bool, "true"},
		{"enum", c.Enum, "-1"},
		{"int32", c.Int32, "-2147483648"},
		{"int64", c.Int64, "-9223372036854775808"},
		{"uint32", c.Uint32, "4294967295"},
		{"uint64", c.Uint64, "18446744073709551615"},
		{"sint32", c.Sint32, "-3"},
		{"sint64", c.Sint64, "-4"},
		{"fixed32", c.Fixed32, "4294967294"},
		{"fixed64", c.Fixed64, "18446744073709551614"},
		{"sfixed32", c.Sfixed32, "-5"},
		{"sfixed64", c.Sfixed64, "-6"},
	} {
		rows = append(rows,
			row{kind.name, unary(kind.method, full), kind.want},
			row{kind.name + " of zero", unary(kind.method, &affinity.Request{}), ""},
			row{kind.name + " of nil", unary(kind.method, nil), ""})
	}
	return rows
}

func places(c affinity.PlacesClient) []row {
	user := func(id int64) *affinity.User { return &affinity.User{Id: id} }
	name := func(name string) *affinity.Request {
		return &affinity.Request{Who: &affinity.Request_Name{Name: name}}
	}
	owner := func(id int64) *affinity.Request {
		return &affinity.Request{Who: &affinity.Request_Owner{Owner: user(id)}}
	}
	return []row{
		{"nested", unary(c.Nested, &affinity.Request{User: &affinity.User{Id: 1, Parent: user(2)}}), "2"},
		{"nested, the last message missing", unary(c.Nested, &affinity.Request{User: user(1)}), ""},
		{"nested, the first message missing", unary(c.Nested, &affinity.Request{}), ""},
		{"nested, no request", unary(c.Nested, nil), ""},
		{"optional", unary(c.Optional, &affinity.Request{Optional: proto.Int64(7)}), "7"},
		{"optional, zero", unary(c.Optional, &affinity.Request{Optional: proto.Int64(0)}), ""},
		{"optional, unset", unary(c.Optional, &affinity.Request{}), ""},
		{"oneof", unary(c.Oneof, name("n")), "n"},
		{"oneof, empty", unary(c.Oneof, name("")), ""},
		{"oneof, another member", unary(c.Oneof, owner(1)), ""},
		{"in a oneof", unary(c.InOneof, owner(9)), "9"},
		{"in a oneof, another member", unary(c.InOneof, name("n")), ""},
		{"renamed", unary(c.Renamed, &affinity.Request{String_: "no", GetString: "yes"}), "yes"},
		{"elsewhere", unary(c.Elsewhere, &basic.HelloRequest{Name: "n"}), "n"},
		{"deprecated", unary(c.Old, &affinity.Request{Old: "o"}), "o"}, //nolint:staticcheck // a deprecated field
		{"server streaming", unary(c.List, &affinity.Request{User: user(5)}), "5"},
		{"server streaming, unset", unary(c.List, &affinity.Request{}), ""},
		{"without affinity", unary(c.Plain, &affinity.Request{User: user(5)}), ""},
		{"both ways", func(ctx context.Context) error {
			_, err := c.Chat(ctx)
			return err
		}, ""},
	}
}

func defaults(c affinityproto2.DefaultsClient) []row {
	type request = affinityproto2.Request
	with := func(set func(*request)) *request {
		r := &request{Required: proto.Uint32(3)}
		set(r)
		return r
	}
	unset := with(func(*request) {})
	return []row{
		{"string", unary(c.String, with(func(r *request) { r.String_ = proto.String("some") })), "some"},
		{"string, its default", unary(c.String, with(func(r *request) { r.String_ = proto.String("none") })), ""},
		{"string, unset", unary(c.String, unset), ""},
		{"bytes, its default", unary(c.Bytes, with(func(r *request) { r.Bytes = []byte("none") })), ""},
		{"bool, false", unary(c.Bool, with(func(r *request) { r.Bool = proto.Bool(false) })), ""},
		{"number", unary(c.Number, with(func(r *request) { r.Part = &affinityproto2.Request_Part{Number: proto.Int32(-8)} })), "-8"},
		{"number, its default", unary(c.Number, with(func(r *request) { r.Part = &affinityproto2.Request_Part{Number: proto.Int32(-7)} })), ""},
		{"number, no message", unary(c.Number, unset), ""},
		{"enum", unary(c.Enum, with(func(r *request) { r.Enum = affinityproto2.Enum_ENUM_TWO.Enum() })), "2"},
		{"enum, its default", unary(c.Enum, with(func(r *request) { r.Enum = affinityproto2.Enum_ENUM_ONE.Enum() })), ""},
		{"oneof", unary(c.Oneof, with(func(r *request) { r.Who = &affinityproto2.Request_Name{Name: "somebody"} })), "somebody"},
		{"oneof, its default", unary(c.Oneof, with(func(r *request) { r.Who = &affinityproto2.Request_Name{Name: "nobody"} })), ""},
		{"oneof, another member", unary(c.Oneof, with(func(r *request) { r.Who = &affinityproto2.Request_Id{Id: 1} })), ""},
		{"unsigned", unary(c.Unsigned, with(func(r *request) { r.Unsigned = proto.Uint64(1<<64 - 2) })), "18446744073709551614"},
		{"get_x", unary(c.GetX, with(func(r *request) { r.GetX = affinityproto2.Enum_ENUM_ONE.Enum() })), "1"},
		{"x.string", unary(c.X, with(func(r *request) { r.X_ = &affinityproto2.Renamed{String_: []byte("\xff\n")} })), "\xff\n"},
		{"x.string, its default", unary(c.X, with(func(r *request) { r.X_ = &affinityproto2.Renamed{String_: []byte("a\"b\n\xff")} })), ""},
		{"x.string, no message", unary(c.X, unset), ""},
		{"required", unary(c.Required, unset), "3"},
	}
}

func opaque(c affinityapi.OpaqueClient) []row {
	full := affinityapi.OpaqueRequest_builder{
		Number: proto.Int64(1), Name: proto.String("n"), GetNumber: proto.Int64(2),
		User: affinityapi.OpaqueRequest_User_builder{Id: "u", Team: proto.String("one")}.Build(),
	}.Build()
	unset := affinityapi.OpaqueRequest_builder{
		Id: proto.Uint32(1), User: &affinityapi.OpaqueRequest_User{},
	}.Build()
	return []row{
		{"field", unary(c.Field, full), "1"},
		{"field, unset", unary(c.Field, unset), ""},
		{"nested", unary(c.Nested, full), "u"},
		{"nested, unset", unary(c.Nested, unset), ""},
		{"nested, no message", unary(c.Nested, &affinityapi.OpaqueRequest{}), ""},
		{"oneof", unary(c.Oneof, full), "n"},
		{"oneof, another member", unary(c.Oneof, unset), ""},
		{"default", unary(c.Default, full), "one"},
		{"default, unset", unary(c.Default, unset), ""},
		{"renamed", unary(c.Renamed, full), "2"},
	}
}

func hybrid(c affinityapi.HybridClient) []row {
	full := affinityapi.HybridRequest_builder{
		Number: proto.Int64(1), Name: proto.String("n"), GetNumber: proto.Int64(2),
		User: affinityapi.HybridRequest_User_builder{Id: "u", Team: proto.String("one")}.Build(),
	}.Build()
	unset := &affinityapi.HybridRequest{}
	return []row{
		{"field", unary(c.Field, full), "1"},
		{"field, unset", unary(c.Field, unset), ""},
		{"nested", unary(c.Nested, full), "u"},
		{"oneof", unary(c.Oneof, full), "n"},
		{"default", unary(c.Default, full), "one"},
		{"default, unset", unary(c.Default, unset), ""},
		{"renamed", unary(c.Renamed, full), "2"},
	}
}

func older(c oldgrpc.ServiceClient) []row {
	return []row{
		{"unary", unary(c.Get, &oldgrpc.Request{Id: "1"}), "1"},
		{"server streaming", unary(c.List, &oldgrpc.Request{Id: "2"}), "2"},
		{"server streaming, unset", unary(c.List, &oldgrpc.Request{}), ""},
	}
}
