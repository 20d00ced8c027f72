package gen

import "google.golang.org/protobuf/compiler/protogen"

// check notes every problem of the files to generate. Imported files take part in checks that concern several services, but their own
// problems are left to the run that generates them. Names that collide are left to the Go compiler, files to protoc and buf.
func check(files []*protogen.File, services map[*protogen.File][]*service, to target) {
	checkOptions(files, services)
	checkPackages(files, services, to)
}

// checkOptions is check without the packages of generated code.
func checkOptions(files []*protogen.File, services map[*protogen.File][]*service) {
	var keyed []*service // those whose keys are valid by themselves
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

// checkOne checks one service by itself, and reports whether its key is valid.
func checkOne(s *service) (keyOK bool) {
	if !s.file.Generate {
		return validKey(s)
	}
	return checkService(s)
}

// checkServiceConfigs notes the service configs that clients would refuse. The options have been checked.
func checkServiceConfigs(files []*protogen.File, services map[*protogen.File][]*service) {
	for _, file := range files {
		for _, s := range services[file] {
			if file.Generate {
				checkServiceConfig(s)
			}
		}
	}
}
