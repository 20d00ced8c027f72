package oldreader

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

const goFrameKey = "/service/default/default/user/latest"

func TestOver(t *testing.T) {
	for _, tt := range []struct {
		layout     endpoint.Layout
		key, value string
		does       string // in what it does; "" it bears the entry
	}{
		{endpoint.GoFrame, "/10.0.0.7:9000", `{"weight":7}`, ""},
		{endpoint.GoFrame, "/10.0.0.7:9000,10.0.0.8:9000", `null`, ""},
		{endpoint.GoFrame, "/host-1", `{"Addr":"10.0.0.7:9000"}`, "panics"},
		{endpoint.GoFrame, "/[::1]:9000", `{}`, "panics"},
		{endpoint.GoFrame, "/10.0.0.7:9000,", `{}`, "panics"},
		{endpoint.GoFrame, "/10.0.0.7:9000", `10.0.0.7:9000`, "gives up"},
		{endpoint.GoFrame, "7587882123456789012", `10.0.0.7:9000`, "fewer parts"},
		{endpoint.Kratos, "/1", `{"id":"1","metadata":{"k":"v"},"endpoints":["grpc://10.0.0.7:9000"]}`, ""},
		{endpoint.Kratos, "/1", `{"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"weight":7}}`, "gives up"},
		{endpoint.Kratos, "/1", `10.0.0.7:9000`, "gives up"},
		{endpoint.Kitex, "/1", `10.0.0.7:9000`, ""},
		{endpoint.Kitex, "/1", `{"Address":"10.0.0.7:9000"}`, ""},
		{endpoint.Kitex, "/1", `{"weight":"7"}`, ""}, // it skips what it cannot parse
		{endpoint.Kitex, "/1", `{"Addr":"10.0.0.7:9000"}`, "without an address"},
		{endpoint.GoMicro, "/1", `10.0.0.7:9000`, ""},
		{endpoint.GoMicro, "/1", `{"name":"user","nodes":[{"id":"1","address":"10.0.0.7:9000"}]}`, ""},
		{endpoint.GoMicro, "/1", `{"network":"tcp","address":"10.0.0.7:9000"}`, "without nodes"},
		{endpoint.GoMicro, "/1", `{"name":"user"}`, "without nodes"},
	} {
		r, ok := Of(tt.layout)
		got := r.Over(goFrameKey+tt.key, []byte(tt.value))
		if !ok || (got == "") != (tt.does == "") || !strings.Contains(got, tt.does) || !strings.Contains(r.Does(), got) {
			t.Errorf("%v over %s = %s: %q, want %q", tt.layout, tt.key, tt.value, got, tt.does)
		}
	}
	if r, ok := Of(endpoint.GoZero); ok {
		t.Errorf("go-zero's reader bears all, but: %v", r)
	}
}

// docs/layouts.md names the layouts that each reader bears.
func TestBears(t *testing.T) {
	page, err := os.ReadFile("../../docs/layouts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range All {
		var names []string
		for _, l := range r.Bears(goFrameKey)[1:] {
			names = append(names, "`"+strings.ToUpper(l.String())+"`")
		}
		if len(names) == 0 {
			names = []string{"none"}
		}
		rows := strings.Split(string(page), "\n")
		at := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, "| "+r.Name+" |") })
		if at < 0 {
			t.Errorf("no row begins with %s", r.Name)
			continue
		}
		listed := strings.Split(strings.TrimSpace(strings.Split(rows[at], "|")[2]), ", ")
		slices.Sort(listed)
		slices.Sort(names)
		if !slices.Equal(listed, names) {
			t.Errorf("%s reader bears %q; the page says %q", r.Name, names, listed)
		}
	}
}
