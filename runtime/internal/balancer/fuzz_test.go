package balancer

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// FuzzMethods reads what endpoints say of the methods that they serve, a line each. A call to a method
// goes to all that name it and to all that name none.
func FuzzMethods(f *testing.F) {
	for _, lines := range []string{
		"helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do\nhelloworld.Greeter/SayHello", "\na/b", "a/b\na/c\nb/c;a/c", "/\n;,\n//", "a/b;a/c\na/b", "a\nb",
		"a/1\na/2\na/3\na/4\na/5\na/6\na/7\na/8\na/1,2;b/1",
	} {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		if len(lines) > endpoint.MaxMethods {
			return
		}
		texts := strings.Split(lines, "\n")
		slices.Sort(texts)
		texts = slices.Compact(texts)
		if len(texts) > maxViews {
			return
		}
		r := makeRoutes(texts, nil)
		if len(r.sets) > maxViews {
			t.Fatalf("%d views", len(r.sets))
		}
		for _, text := range texts {
			for method := range parseClass(text).methods {
				checkView(t, &r, texts, method)
			}
		}
		for _, method := range []string{"/a/b", "/a/", "//", "a", "", "/helloworld.Greeter/SayHello"} {
			checkView(t, &r, texts, method)
		}
	})
}

// checkView holds for the view of any method: it has the endpoints that name the method, and the ones that
// say nothing.
func checkView(t *testing.T, r *routes, texts []string, method string) {
	t.Helper()
	v := r.view(method)
	if v < 0 || v > len(r.sets) {
		t.Fatalf("the view of %q is %d of %d", method, v, len(r.sets))
	}
	if v == 0 {
		return
	}
	if len(r.sets[v-1]) != len(texts) || !slices.Contains(r.sets[v-1], true) {
		t.Fatalf("the view of %q is %v, of %d classes", method, r.sets[v-1], len(texts))
	}
	for i, text := range texts {
		if c := parseClass(text); (c.unknown || c.methods[method]) && !r.sets[v-1][i] {
			t.Fatalf("the view of %q leaves %q out", method, text)
		}
	}
}
