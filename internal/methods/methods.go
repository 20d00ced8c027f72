// Package methods finds the endpoints that serve a method, by the lists of methods that they publish: [endpoint.MethodsName].
package methods

import (
	"iter"
	"slices"
	"strings"
)

// MaxTexts bounds the distinct texts among endpoints. A rollout adds one; above the bound, every method goes to all endpoints.
const MaxTexts = 8

// Split returns the service and the name of a full method name, "/helloworld.Greeter/SayHello".
func Split(method string) (service, name string) {
	service, name, _ = strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service, name
}

// NamesService reports whether a text such as "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do" names a method of a
// service.
func NamesService(text, service string) bool {
	for range listsOf(text, service) {
		return true
	}
	return false
}

// Names reports whether a text names a method of a service. No text names the method "".
func Names(text, service, method string) bool {
	for list := range listsOf(text, service) {
		if method != "" && namesMethod(list, method) {
			return true
		}
	}
	return false
}

// listsOf yields the lists of methods of a service in a text.
func listsOf(text, service string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for part := range strings.SplitSeq(text, ";") {
			if rest, ok := strings.CutPrefix(part, service); ok && strings.HasPrefix(rest, "/") && !yield(rest[1:]) {
				return
			}
		}
	}
}

// namesMethod reports whether a list such as "SayHello,SayBye" has a method.
func namesMethod(list, method string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == method {
			return true
		}
	}
	return false
}

// Lacking returns the texts whose endpoints lack a method: a text that lists methods lacks the method if it does not list it, and
// another text does. If no text lists the method, the texts that list other methods of its service lack it. others has the texts
// of endpoints that take such calls. If there are none, and all would lack the method, Lacking returns nil.
func Lacking(method string, texts, others []string) (lacking []string) {
	service, name := Split(method)
	names := func(text string) bool { return Names(text, service, name) }
	named := slices.ContainsFunc(texts, names) || slices.ContainsFunc(others, names)
	lacks := func(text string) bool {
		return named && text != "" && !names(text) || !named && NamesService(text, service)
	}
	for _, text := range texts {
		if lacks(text) {
			lacking = append(lacking, text)
		}
	}
	if len(lacking) == len(texts) && !slices.ContainsFunc(others, func(text string) bool { return !lacks(text) }) {
		return nil
	}
	return lacking
}
