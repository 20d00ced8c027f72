package gen

import "google.golang.org/protobuf/compiler/protogen"

// check notes every problem of the files to generate. Their imports take part in what
// concerns several services, but what is wrong with them alone is left to the
// run that generates them.
func check(files []*protogen.File, services map[*protogen.File][]*service, problems *problems) {
	var keyed []*service // those whose keys are right by themselves
	for _, file := range files {
		for _, s := range services[file] {
			if checkOne(s) {
				keyed = append(keyed, s)
			}
		}
	}
	checkKeys(keyed)
	checkNames(files, services, problems)
}

// checkOne checks one service by itself, and tells whether its key is right.
func checkOne(s *service) (keyRight bool) {
	if !s.file.Generate {
		return validKey(s)
	}
	return checkService(s)
}
