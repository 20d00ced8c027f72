package xds

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestDrawn calls 300 services with hostile entries in etcd. Each service has a
// random valid service config. Clients that start must accept all resources.
// Another XDS_SEED draws other configs.
func TestDrawn(t *testing.T) {
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("XDS_SEED"), "1"), 10, 64)
	kit.Must(t, err)
	d := drawer{rand.New(rand.NewPCG(seed, 0))}
	w := newWorld(t, "")
	lis, err := net.Listen("tcp", "0.0.0.0:0") // for several addresses
	kit.Must(t, err)
	kit.Serve(t, grpc.NewServer(grpc.UnknownServiceHandler((&instance{name: "a"}).handle)), lis)

	good := fmt.Sprintf(`{"Addr":"127.0.0.%%d:%d","Metadata":{%%s}}`,
		lis.Addr().(*net.TCPAddr).Port)
	for name, value := range map[string]string{
		"0":             fmt.Sprintf(good, 1, ""),
		"1":             fmt.Sprintf(good, 2, `"version":"v1","weight":4294967295`),
		"2":             fmt.Sprintf(good, 3, `"zone":"z","lane":"blue","weight":4294967295`),
		"unix":          `{"Addr":"unix:/x"}`,
		"name":          `{"Addr":"db.example:80"}`,
		"twin":          fmt.Sprintf(good, 1, ""),
		"zero":          `{"Addr":"127.0.0.1:0"}`,
		"long":          fmt.Sprintf(good, 4, `"x":"`+strings.Repeat("x", 100_000)+`"`),
		"bytes\xff\xfe": fmt.Sprintf(good, 5, `"version":"`+"\xff"+`"`),
		"methods": fmt.Sprintf(good, 6,
			`"grpc_methods":"/;a/;;b//c,`+strings.Repeat("a/b;", 1000)+`"`),
		"mapped": strings.Replace(fmt.Sprintf(good, 7, ""), "127.0.0.7", "[::ffff:127.0.0.7]", 1),
	} {
		w.putValue(name, value)
	}

	var drawn []*runtime.ServiceDesc
	for i := range 300 {
		drawn = append(drawn, &runtime.ServiceDesc{
			Name:          w.desc.Name,
			Key:           w.desc.Key,
			Authority:     fmt.Sprint("drawn", i),
			ServiceConfig: d.config(),
		})
	}

	w.bridges = []*bridge{w.bridgeAt(kit.Listen(t), w.newRegistry(), drawn...)}

	for _, language := range languages(t) {
		c := language.dial(w, "z")
		for _, w.desc = range drawn {
			if language.name == "go" {
				c = language.dial(w, "z")
			}

			o := calls(1)
			o.Wait = true
			o.Target = "xds:///" + w.desc.Authority
			got := c.call(o)

			late := strings.Contains(strings.ToLower(fmt.Sprint(got.Errors)), "deadline") &&
				got.Most < float64(o.Timeout)/2
			if len(got.By) != 1 && !late {
				t.Errorf("%s, %s: %+v, want an answer, or the end of the config's timeout",
					language.name, w.desc.ServiceConfig, got)
			}
		}
	}

	if n := w.logs.Count("(NACK)"); n > 0 {
		t.Errorf("clients rejected %d responses, want none", n)
	}
}
