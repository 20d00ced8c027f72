package endpoint

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestTable checks that each layout of the proto enum is in the table, in
// package runtime and in docs/layouts.md.
func TestTable(t *testing.T) {
	variables := read(t, "../../runtime/layout.go")
	page := read(t, "../../docs/layouts.md")
	for i, l := range Layouts() {
		if named, err := LayoutByName(l.String()); err != nil || named != l {
			t.Errorf("LayoutByName(%q) = %v, error %v, want the same layout", l, named, err)
		}

		name := strings.ToUpper(l.String())
		if got := discoveryv1.Layout_name[int32(i+1)]; got != "LAYOUT_"+name {
			t.Errorf("layout %v has the number of %s, want LAYOUT_%s", l, got, name)
		}

		want := fmt.Sprintf("\t%s Layout = sealed{endpoint.%[1]s}\n", l.Constant())
		if !strings.Contains(variables, want) {
			t.Errorf("package runtime lacks %s", want)
		}

		carries := map[bool]string{true: "yes", false: "no"}[l.Metadata()]

		_, row, _ := strings.Cut(page, "\n| `"+name+"`")
		if !fits(row, "| `"+l.ends.spelled+"` |", "| "+carries+" |") {
			t.Errorf("docs/layouts.md lacks a row of %s with the key %s and %q for metadata",
				name, l.ends.spelled, carries)
		}
	}

	if got, want := len(Layouts()), len(discoveryv1.Layout_name)-1; got != want {
		t.Errorf("the table has %d layouts, want %d, as many as the proto enum", got, want)
	}
}

// TestTrouble_MatchesDocs compares Trouble with the rows of docs/layouts.md.
// Layouts with the same key are never written together.
func TestTrouble_MatchesDocs(t *testing.T) {
	page := read(t, "../../docs/layouts.md")
	e := Endpoint{Instance: "one", Addr: "10.0.0.7:9000"}
	for reader, own := range map[string]Layout{
		"kratos'":    Kratos,
		"kitex'":     Kitex,
		"GoFrame's":  GoFrame,
		"go-micro's": GoMicro,
	} {
		var accepts []string
		for _, l := range Layouts() {
			if l.Key("svc", e, 7) != own.Key("svc", e, 7) && Trouble(own, l) == "" {
				accepts = append(accepts, "`"+strings.ToUpper(l.String())+"`")
			}
		}

		row := fmt.Sprintf("\n| %s | %s |", reader, cmp.Or(strings.Join(accepts, ", "), "none"))
		if !strings.Contains(page, row) {
			t.Errorf("docs/layouts.md lacks the row%s", row)
		}
	}
}

func TestRemedy(t *testing.T) {
	// GoFrame's callers panic at a key that ends in an instance id
	for other, parts := range map[Layout]bool{Kitex: true, GoFrame: false, Plain: false} {
		got := Remedy(EndpointJSON, other)
		if strings.Contains(got, "instance id") != parts || got != Remedy(other, EndpointJSON) {
			t.Errorf("the remedy for %v is %q, want another instance id: %v", other, got, parts)
		}
	}
}

// fits reports whether the first line of a text contains part and ends in end.
func fits(text, part, end string) bool {
	line, _, _ := strings.Cut(text, "\n")
	return strings.Contains(line, part) && strings.HasSuffix(line, end)
}

func read(t *testing.T, file string) string {
	t.Helper()

	text, err := os.ReadFile(file)
	must.Succeed(t, err)

	return string(text)
}
