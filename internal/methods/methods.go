// Package methods finds the endpoints that serve a method. An endpoint
// publishes its methods as one text, such as
// "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do", in the metadata
// [endpoint.MethodsName].
package methods

import (
	"slices"
	"strings"
)

// MaxTexts bounds the number of different texts that endpoints publish. Above
// the bound, calls of every method go to all endpoints.
const MaxTexts = 8

// Split returns the service and the name of a full method name,
// "/helloworld.Greeter/SayHello".
func Split(method string) (service, name string) {
	service, name, _ = strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service, name
}

// NamesService reports whether a text names a method of a service.
func NamesService(text, service string) bool {
	return slices.ContainsFunc(strings.Split(text, ";"), func(part string) bool {
		return strings.HasPrefix(part, service+"/")
	})
}

// Names reports whether a text names a method of a service. It is false for the
// method "".
func Names(text, service, method string) bool {
	return slices.ContainsFunc(strings.Split(text, ";"), func(part string) bool {
		list, ok := strings.CutPrefix(part, service+"/")
		return ok && method != "" && slices.Contains(strings.Split(list, ","), method)
	})
}

// Lacking returns the texts whose endpoints must not get calls of a method. If
// some text names the method, Lacking returns the nonempty texts that do not
// name the method. Otherwise it returns the texts that name a different method
// of the same service. others has the texts of further endpoints that could get
// the calls. If no endpoint at all could get the calls, Lacking returns nil.
func Lacking(method string, texts, others []string) (lacking []string) {
	service, name := Split(method)
	names := func(text string) bool { return Names(text, service, name) }
	named := slices.ContainsFunc(texts, names) || slices.ContainsFunc(others, names)

	lacks := func(text string) bool {
		return named && text != "" && !names(text) ||
			!named && NamesService(text, service)
	}
	for _, text := range texts {
		if lacks(text) {
			lacking = append(lacking, text)
		}
	}

	if len(lacking) == len(texts) && !slices.ContainsFunc(others, func(text string) bool {
		return !lacks(text)
	}) {
		return nil
	}

	return lacking
}
