package gen

import "google.golang.org/protobuf/compiler/protogen"

// check reports every problem of the files to generate. Checks across services include imported files, but the run that
// generates those reports their own problems. The Go compiler reports colliding names, protoc and buf colliding files.
func check(files []*protogen.File, services map[*protogen.File][]*service, to target) {
	checkOptions(files, services)
	checkPackages(files, services, to)
}

// checkOptions is check without the packages of generated code.
func checkOptions(files []*protogen.File, services map[*protogen.File][]*service) {
	var keyed []*service // services with keys that are valid by themselves
	for _, file := range files {
		for _, s := range services[file] {
			if checkOne(s) {
				keyed = append(keyed, s)
			}
		}
	}
	checkKeys(keyed)
	checkTLSNames(keyed)
}

// checkOne checks one service alone, and reports whether its key is valid.
func checkOne(s *service) (keyOK bool) {
	if !s.file.Generate {
		return validKey(s)
	}
	return checkService(s)
}

// checkServiceConfigs reports service configs that clients would reject. The options have been checked.
func checkServiceConfigs(files []*protogen.File, services map[*protogen.File][]*service) {
	for _, file := range files {
		for _, s := range services[file] {
			if file.Generate {
				checkServiceConfig(s)
			}
		}
	}
}
