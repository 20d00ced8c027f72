package balancer

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// maxViews bounds how many sets of endpoints are kept apart by the methods that they serve. A
// rollout makes one; beyond the bound, methods go to all endpoints.
const maxViews = 8

// routes tells which view serves a method: 0, that of all endpoints, unless it says otherwise.
type routes struct {
	methods  map[string]int // by full method name, "/helloworld.Greeter/SayHello"
	services map[string]int // for other methods of a service, "/helloworld.Greeter/"
}

// view returns the index of the view for a method. It allocates nothing.
func (r *routes) view(method string) int {
	if r.methods == nil {
		return 0
	}
	if i, ok := r.methods[method]; ok {
		return i
	}
	return r.services[method[:strings.LastIndexByte(method, '/')+1]]
}

// makeRoutes finds the methods that some endpoints serve and others do not, as in a rollout that
// adds a method, and the endpoints to send them to: those that serve the method, and those that do
// not say what they serve. subsets are the views from the second on.
func makeRoutes(endpoints []resolver.Endpoint) (r routes, subsets [][]resolver.Endpoint) {
	classes := makeClasses(endpoints)
	if len(classes) < 2 {
		return routes{}, nil
	}
	r = routes{methods: make(map[string]int), services: make(map[string]int)}
	seen := make(map[string]int) // view by which classes are in it
	route := func(to map[string]int, name string, has func(*class) bool) {
		in := make([]byte, len(classes))
		n := 0
		for i := range classes {
			if classes[i].unknown || has(&classes[i]) {
				in[i] = 1
				n++
			}
		}
		if n == 0 || n == len(classes) {
			to[name] = 0
			return
		}
		i, ok := seen[string(in)]
		if !ok && len(subsets) < maxViews {
			subsets = append(subsets, subsetOf(endpoints, classes, in))
			i = len(subsets)
			seen[string(in)] = i
		}
		to[name] = i
	}
	for _, c := range classes {
		for _, method := range slices.Sorted(maps.Keys(c.methods)) {
			if _, done := r.methods[method]; !done {
				route(r.methods, method, func(o *class) bool { return o.methods[method] })
			}
		}
		for _, service := range slices.Sorted(maps.Keys(c.services)) {
			if _, done := r.services[service]; !done {
				// A method that nobody names is not served where the service's methods are named.
				route(r.services, service, func(o *class) bool { return !o.services[service] })
			}
		}
	}
	return r, subsets
}

// class is the endpoints that name the same methods.
type class struct {
	text     string // the names as published
	unknown  bool   // nothing is published: any method may be served
	methods  map[string]bool
	services map[string]bool
}

// makeClasses returns the classes, nil where all endpoints are of one. Their order follows their
// names, so that views keep their places.
func makeClasses(endpoints []resolver.Endpoint) []class {
	var texts []string
	last := ""
	for i, ep := range endpoints {
		text := attr.Methods(ep)
		if i > 0 && text == last {
			continue
		}
		if last = text; !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if len(texts) < 2 || len(texts) > maxViews {
		return nil
	}
	slices.Sort(texts)
	classes := make([]class, len(texts))
	for i, text := range texts {
		classes[i] = parseClass(text)
	}
	return classes
}

// parseClass reads "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do".
func parseClass(text string) class {
	c := class{text: text, unknown: text == "", methods: make(map[string]bool), services: make(map[string]bool)}
	for part := range strings.SplitSeq(text, ";") {
		service, methods, ok := strings.Cut(part, "/")
		if !ok {
			continue
		}
		c.services["/"+service+"/"] = true
		for method := range strings.SplitSeq(methods, ",") {
			c.methods["/"+service+"/"+method] = true
		}
	}
	return c
}

func subsetOf(endpoints []resolver.Endpoint, classes []class, in []byte) []resolver.Endpoint {
	var subset []resolver.Endpoint
	for _, ep := range endpoints {
		text := attr.Methods(ep)
		i := slices.IndexFunc(classes, func(c class) bool { return c.text == text })
		if in[i] == 1 {
			subset = append(subset, ep)
		}
	}
	return subset
}
