package methods

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// FuzzMethods reads the texts of endpoints, one a line. The lines after an
// empty line are the argument others of Lacking. A call must go to all
// endpoints that name its method or publish no methods, and to at least one
// endpoint.
func FuzzMethods(f *testing.F) {
	for _, lines := range []string{
		"helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do\nhelloworld.Greeter/SayHello", "\na/b", "a/b\na/c\nb/c;a/c", "/\n;,\n//", "a/b;a/c\na/b", "a\nb",
		"a/1\na/2\na/3\na/4\na/5\na/6\na/7\na/8\na/1,2;b/1", "a/b\na/c\n\n\na/d", "a/b\n\na/c",
	} {
		f.Add(lines)
	}

	f.Fuzz(func(t *testing.T, lines string) {
		if len(lines) > endpoint.MaxMethods {
			return
		}

		own, base, _ := strings.Cut(lines, "\n\n")
		texts := slices.Compact(slices.Sorted(strings.SplitSeq(own, "\n")))

		var others []string
		if base != "" {
			others = slices.Compact(slices.Sorted(strings.SplitSeq(base, "\n")))
		}

		if max(len(texts), len(others)) > MaxTexts {
			return
		}

		all := []string{"/a/b", "/a/", "//", "a", "", "/helloworld.Greeter/SayHello"}
		for _, text := range slices.Concat(texts, others) {
			for part := range strings.SplitSeq(text, ";") {
				service, list, _ := strings.Cut(part, "/")
				for name := range strings.SplitSeq(list, ",") {
					all = append(all, "/"+service+"/"+name)
				}
			}
		}

		for _, method := range all {
			service, name := Split(method)
			says := func(text string) bool { return text == "" || Names(text, service, name) }
			lacking := Lacking(method, texts, others)
			if i := slices.IndexFunc(lacking, says); i >= 0 {
				t.Fatalf("Lacking(%q) has %q, which names the method or is empty", method,
					lacking[i])
			}

			if len(lacking) == len(texts) && len(texts) > 0 && !slices.ContainsFunc(others,
				func(text string) bool { return says(text) || !NamesService(text, service) }) {
				t.Fatalf(
					"Lacking(%q) has all texts, want none: no other endpoint serves the method",
					method)
			}
		}
	})
}
