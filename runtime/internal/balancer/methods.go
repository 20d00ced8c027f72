package balancer

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// maxViews bounds how many sets of endpoints, of the base or of a lane, are kept apart by the methods that they
// serve. A rollout makes one; beyond the bound, methods go to all endpoints.
const maxViews = 8

// elsewhere stands for the view of the methods that only others serve: the base, where a lane does not.
const elsewhere = -1

// routes says which view serves a method: 0, the view of all endpoints, unless a map names another.
type routes struct {
	methods  map[string]int // by full method name, "/helloworld.Greeter/SayHello"
	services map[string]int // for a service's other methods, "/helloworld.Greeter/"
	sets     [][]bool       // for each view but the first, the classes that are in it
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

// byMethod returns the endpoints of each view of the base: first all, then those that serve methods which others
// do not, as in a rollout that adds one. classes are the endpoints'.
func (p *plan) byMethod(endpoints []resolver.Endpoint, classes []string, before *plan) []set {
	if len(endpoints) == 0 {
		return nil
	}
	sets := []set{{endpoints: endpoints, among: 1}}
	if len(classes) < 2 {
		return sets
	}
	p.shape.classes = classes
	if before != nil && slices.Equal(before.shape.classes, classes) {
		p.routes = before.routes
	} else {
		p.routes = makeRoutes(classes, nil)
	}
	for i, served := range viewsOf(endpoints, classes, p.routes.sets) {
		sets = append(sets, set{key: leafKey{view: i + 1}, endpoints: served, among: 1})
	}
	return sets
}

// classesOf returns the distinct texts in which endpoints name their methods, sorted. It returns nil if
// there are too many to keep apart.
func classesOf(endpoints []resolver.Endpoint) []string {
	seen := make(map[string]struct{}, 2)
	last := ""
	for i, ep := range endpoints {
		text := attr.Methods(ep)
		if i > 0 && text == last {
			continue
		}
		last = text
		if seen[text] = struct{}{}; len(seen) > maxViews {
			return nil
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// classesOf returns the classes of some of the input's endpoints. It looks at these only if the summary does not tell.
func (in *input) classesOf(endpoints []resolver.Endpoint) []string {
	if in.summary == nil || len(endpoints) != len(in.endpoints) && len(in.summary.Methods) > 1 {
		return classesOf(endpoints)
	}
	if len(in.summary.Methods) > maxViews {
		return nil
	}
	return in.summary.Methods
}

// viewsOf returns the endpoints of each set of classes.
func viewsOf(endpoints []resolver.Endpoint, classes []string, sets [][]bool) [][]resolver.Endpoint {
	views := make([][]resolver.Endpoint, len(sets))
	class, last := 0, ""
	for i, ep := range endpoints {
		if text := attr.Methods(ep); i == 0 || text != last {
			last = text
			class, _ = slices.BinarySearch(classes, text)
		}
		for v, in := range sets {
			if in[class] {
				views[v] = append(views[v], ep)
			}
		}
	}
	return views
}

// makeRoutes finds the methods that some classes serve and others do not, and the classes to send them
// to: the ones that name the method, and the ones that name no methods at all. It knows the methods of others, too:
// what only these serve is served elsewhere.
func makeRoutes(texts, others []string) routes {
	known := make([]class, 0, len(texts)+len(others))
	for _, text := range slices.Concat(texts, others) {
		known = append(known, parseClass(text))
	}
	classes := known[:len(texts)]
	r := routes{methods: make(map[string]int), services: make(map[string]int)}
	seen := make(map[string]int) // view by which classes are in it
	route := func(to map[string]int, name string, has func(*class) bool) {
		in := make([]byte, len(classes))
		set := make([]bool, len(classes))
		n := 0
		for i := range classes {
			if classes[i].unknown || has(&classes[i]) {
				in[i], set[i] = 1, true
				n++
			}
		}
		switch {
		case n == len(classes):
			to[name] = 0
			return
		case n == 0:
			to[name] = 0
			if slices.ContainsFunc(known[len(classes):], func(o class) bool { return o.unknown || has(&o) }) {
				to[name] = elsewhere
			}
			return
		}
		i, ok := seen[string(in)]
		if !ok && len(r.sets) < maxViews {
			r.sets = append(r.sets, set)
			i = len(r.sets)
			seen[string(in)] = i
		}
		to[name] = i
	}
	for _, c := range known {
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
	return r
}

// class is the set of methods that some endpoints name.
type class struct {
	unknown  bool // they name none, so they may serve any
	methods  map[string]bool
	services map[string]bool
}

// parseClass reads "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do".
func parseClass(text string) class {
	c := class{unknown: text == "", methods: make(map[string]bool), services: make(map[string]bool)}
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
