package gen

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// problems collects what is wrong in a request, so that all of it is said at once.
type problems struct {
	list []problem
}

// A problem is one fault in a file.
type problem struct {
	file         *protogen.File
	line, column int // from 1; 0 where the compiler has not said
	text         string
}

// err returns all problems in the order of the files and the places in them, nil
// if there are none.
func (p *problems) err(order []*protogen.File) error {
	if len(p.list) == 0 {
		return nil
	}
	rank := make(map[*protogen.File]int, len(order))
	for i, file := range order {
		rank[file] = i
	}
	slices.SortStableFunc(p.list, func(a, b problem) int {
		return cmp.Or(
			cmp.Compare(rank[a.file], rank[b.file]),
			cmp.Compare(a.line, b.line),
			cmp.Compare(a.column, b.column),
		)
	})
	lines := make([]string, len(p.list))
	for i, problem := range p.list {
		lines[i] = problem.String()
	}
	return errors.New(strings.Join(lines, "\n"))
}

func (p problem) String() string {
	return position(p.file, p.line, p.column) + ": " + p.text
}

func position(file *protogen.File, line, column int) string {
	if line == 0 {
		return file.Desc.Path()
	}
	return fmt.Sprintf("%s:%d:%d", file.Desc.Path(), line, column)
}

// A spot is a place in a proto file that something can be wrong with: a service or
// method, or a field of one of its options.
type spot struct {
	problems *problems
	file     *protogen.File
	owner    protoreflect.FullName // the service or method
	element  protoreflect.SourcePath
	option   protoreflect.SourcePath // below element; empty for the element itself
	message  protoreflect.MessageDescriptor
	field    string // the option's field as options.proto spells it: "retry.codes"
}

// at returns the spot of one of our options on the service or method that s is.
func (s spot) at(option protoreflect.ExtensionTypeDescriptor) spot {
	s.option = protoreflect.SourcePath{optionsField(s.element), int32(option.Number())}
	s.message = option.Message()
	return s
}

// optionsField is the number of the field options in the descriptor that a path
// leads to, which is that of a service (6, i) or a method (6, i, 2, j).
func optionsField(element protoreflect.SourcePath) int32 {
	const service, method = 3, 4
	if len(element) == 2 {
		return service
	}
	return method
}

// in returns the spot of a field of the message that s is.
func (s spot) in(field protoreflect.Name) spot {
	fd := s.message.Fields().ByName(field)
	if fd == nil {
		panic(fmt.Sprintf("%s has no field %s", s.message.FullName(), field))
	}
	s.option = append(slices.Clip(s.option), int32(fd.Number()))
	s.message = fd.Message()
	s.field = strings.TrimPrefix(s.field+"."+string(field), ".")
	return s
}

// number returns the spot of a field that has no name here.
func (s spot) number(n protoreflect.FieldNumber) spot {
	s.option = append(slices.Clip(s.option), int32(n))
	return s
}

// index returns the spot of an element of the list that s is.
func (s spot) index(i int) spot {
	s.option = append(slices.Clip(s.option), int32(i))
	return s
}

// problem notes what is wrong here and what would be right. The text goes on after
// the names of the service or method and of the field.
func (s spot) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.field != "" {
		text = s.field + " " + text
	}
	line, column := s.position()
	s.problems.list = append(s.problems.list, problem{s.file, line, column, string(s.owner) + ": " + text})
}

// String is the spot as the text about another one mentions it.
func (s spot) String() string {
	line, column := s.position()
	return fmt.Sprintf("%s (%s)", s.owner, position(s.file, line, column))
}

// position returns where the spot is, counted from 1, or zeros. What has no position
// of its own has that of the statement it is a part of. Compilers give an option
// the path of the fields that its statement names; some give one to the fields
// inside braces, too.
func (s spot) position() (line, column int) {
	for n := len(s.option); n >= 2; n-- {
		path := append(slices.Clip(s.element), s.option[:n]...)
		if line, column := exactly(s.file, path); line != 0 {
			return line, column
		}
		if line, column := firstBelow(s.file, path); line != 0 {
			return line, column
		}
	}
	return exactly(s.file, s.element)
}

func exactly(file *protogen.File, path protoreflect.SourcePath) (line, column int) {
	location := file.Desc.SourceLocations().ByPath(path)
	if location.Path == nil {
		return 0, 0
	}
	return location.StartLine + 1, location.StartColumn + 1
}

// firstBelow returns the first position of what lies below a path.
func firstBelow(file *protogen.File, path protoreflect.SourcePath) (line, column int) {
	locations := file.Desc.SourceLocations()
	for i := range locations.Len() {
		location := locations.Get(i)
		if len(location.Path) <= len(path) || !slices.Equal(location.Path[:len(path)], path) {
			continue
		}
		l, c := location.StartLine+1, location.StartColumn+1
		if line == 0 || l < line || l == line && c < column {
			line, column = l, c
		}
	}
	return line, column
}
