package seeds

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// layout is a layout, and the key and value of an entry that our server writes
// in it. KEY, INSTANCE, ADDR, HOST, PORT and LEASE are placeholders.
type layout struct {
	runtime.Layout
	key, value string
}

var layouts = []layout{
	{runtime.EndpointJSON, "KEY/INSTANCE",
		`{"Op":0,"Addr":"ADDR","Metadata":{"grpc_methods":"basic.Greeter/SayHello","k":"v","version":"v2"}}`},
	{runtime.Plain, "KEY/INSTANCE", "ADDR"},
	{runtime.LeaseSuffix, "KEYLEASE", "ADDR"},
	{runtime.GoZero, "KEY/LEASE", "ADDR"},
	{runtime.Kratos, "KEY/INSTANCE", `{"id":"INSTANCE","name":"greeter","version":"v2","metadata":{"grpc_methods":"basic.Greeter/SayHello","k":"v"},` +
		`"endpoints":["grpc://ADDR","grpcs://ADDR"]}`},
	{runtime.GoFrame, "KEY/ADDR",
		`{"grpc_methods":"basic.Greeter/SayHello","k":"v","version":"v2"}`},
	{runtime.GoMicro, "KEY/INSTANCE", `{"name":"greeter","version":"v2","metadata":null,"endpoints":[],` +
		`"nodes":[{"metadata":{"grpc_methods":"basic.Greeter/SayHello","k":"v"},"id":"INSTANCE","address":"ADDR"}]}`},
	{homeMade, "KEY/INSTANCE",
		`{"labels":{"grpc_methods":"basic.Greeter/SayHello","k":"v"},"name":"greeter","url":"ADDR","ver":"v2"}`},
	{runtime.Kitex, "KEY/ADDR",
		`{"network":"tcp","address":"ADDR","weight":0,"tags":{"grpc_methods":"basic.Greeter/SayHello","k":"v","version":"v2"}}`},
}

// started matches the start time of a server in a value. It differs in each
// run.
var started = regexp.MustCompile(`,"grpc_started":"\d{10}"`)

// homeMade is a json_layout, with field names that a team's own registry might
// use.
var homeMade = runtime.JSONLayout(runtime.JSONFields{
	Addr:     "url",
	Version:  "ver",
	Weight:   "w",
	Metadata: "labels",
	Name:     "name",
})

func TestLayouts_OurWriterOurClient(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.String(), func(t *testing.T) {
			w := newWorld(t)
			desc := &runtime.ServiceDesc{
				Name:   "basic.Greeter",
				Key:    "fleet/greeter",
				Layout: l.Layout,
			}

			conn := w.conn(desc)
			a := w.publish("a", desc, runtime.WithInstance("one"), runtime.WithVersion("v2"),
				runtime.WithMetadata("k", "v"))
			host, port, err := net.SplitHostPort(a.addr)
			kit.Must(t, err)
			spell := strings.NewReplacer("KEY", desc.Key, "INSTANCE", "one", "ADDR", a.addr,
				"HOST", host, "PORT", port, "LEASE", fmt.Sprint(int64(a.lease())))
			want := entry{spell.Replace(l.key), spell.Replace(l.value), a.lease()}
			got := w.entryOf(a)

			n := len(started.FindAllString(got.value, -1))
			if n != strings.Count(l.value, "grpc_methods") {
				t.Errorf("the entry has %d start times, want %d: %s", n,
					strings.Count(l.value, "grpc_methods"), got.value)
			}

			got.value = started.ReplaceAllString(got.value, "")

			if got != want {
				t.Errorf("the entry is\n%+v, want\n%+v", got, want)
			}

			w.balanced(conn, "a")
			b := w.publish("b", desc, runtime.WithInstance("two"))
			w.balanced(conn, "a", "b")
			b.stop()
			w.balanced(conn, "a")
		})
	}
}

// A client calls the servers of a key that has entries of all layouts. It reads
// LEASE_SUFFIX or a json_layout only if its ServiceDesc has that layout.
func TestLayouts_MixedServers(t *testing.T) {
	w := newWorld(t)
	const key = "/microservices/greeter"
	var slash []string
	for _, l := range layouts {
		w.publish(l.String(),
			&runtime.ServiceDesc{Name: "basic.Greeter", Key: key, Layout: l.Layout})

		// only clients that ask for these two layouts read them
		if l.Layout != runtime.LeaseSuffix && l.Layout != homeMade {
			slash = append(slash, l.String())
		}
	}

	theirs := func(name string) string {
		s := w.serve(name)
		slash = append(slash, name)

		return s.addr
	}

	naming := theirs("their naming")
	kratos := theirs("their kratos")
	kitex := theirs("their kitex")
	tutorial := theirs("a tutorial's")
	goFrame := theirs("their GoFrame")
	goMicro := theirs("their go-micro")
	dubbo := theirs("their dubbo")
	w.put(key+"/"+tutorial,
		fmt.Sprintf(`{"name":"greeter","addr":%q,"version":"v1","weight":3}`, tutorial))
	w.put(key+"/"+goFrame+",127.0.0.1:1", `{"protocol":"grpc"}`)

	w.put(
		key+"/greeter-1",
		fmt.Sprintf(`{"name":"greeter","version":"latest","metadata":null,"endpoints":[{"name":"Greeter.SayHello"}],`+
			`"nodes":[{"id":"greeter-1","address":%q,"metadata":{"protocol":"grpc"}}]}`, goMicro),
	)

	host, port, _ := strings.Cut(dubbo, ":")
	w.put(
		key+"/"+dubbo,
		fmt.Sprintf(`{"ID":%q,"ServiceName":"greeter","Host":%q,"Port":%s,"Enable":true,"Healthy":true,"Metadata":{}}`,
			dubbo, host, port),
	)

	w.put(key+"/"+naming, fmt.Sprintf(`{"Addr":%q,"Metadata":null}`, naming))
	w.goZeroPublish(key, theirs("their go-zero"))
	w.put(key+"/k1", fmt.Sprintf(
		`{"id":"k1","name":"other","endpoints":["http://127.0.0.1:1","grpc://%s?isSecure=true"]}`,
		kratos))
	w.put(key+"/"+kitex,
		fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":null}`, kitex))
	w.put(key+"/their-plain", theirs("their plain"))

	for name, value := range map[string]string{
		"empty": "",
		"text":  "hello",
		"json":  "{}",
		"half":  `{"Addr":"127`,
		"port":  "127.0.0.1:0",
	} {
		w.put(key+"/bad-"+name, value)
	}

	w.put(key+"/nested/1", theirs("nested"))
	slash = slash[:len(slash)-1]

	w.balanced(w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key}), slash...)
	w.balanced(w.conn(&runtime.ServiceDesc{
		Name:   "basic.Greeter",
		Key:    key,
		Layout: runtime.Kratos,
	}), slash...)

	w.balanced(w.conn(&runtime.ServiceDesc{
		Name:   "basic.Greeter",
		Key:    key,
		Layout: runtime.LeaseSuffix,
	}),
		append(slash[:len(slash):len(slash)], runtime.LeaseSuffix.String())...)

	w.balanced(w.conn(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key, Layout: homeMade}),
		append(slash[:len(slash):len(slash)], homeMade.String())...)
}
