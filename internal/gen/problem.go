package gen

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// problems collects the problems of a request, to report them together.
type problems struct {
	list   []problem
	places map[*protogen.File]places // of the files with problems

	// whether no file declares an option with the number of one of ours
	undeclared bool
}

// A problem is a mistake in a file.
type problem struct {
	file         *protogen.File
	line, column int // from 1; 0 if the compiler gave no position
	text         string
}

// err returns all problems in the order of the files and positions, nil if
// there are none.
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

	var lines []string
	seen := make(map[problem]bool, len(p.list))
	for _, problem := range p.list {
		// with some compilers, the elements of a list have the same place
		if !seen[problem] {
			seen[problem] = true
			lines = append(lines, problem.String())
		}
	}

	if p.undeclared {
		lines = append(lines,
			`no file in the request declares these options: if they are not from etcd/discovery/v1/options.proto, replace "import option" by "import"`)
	}

	return errors.New(strings.Join(lines, "\n"))
}

func (p problem) String() string {
	return formatPosition(p.file, p.line, p.column) + ": " + p.text
}

func formatPosition(file *protogen.File, line, column int) string {
	if line == 0 {
		return pathText(file)
	}

	return fmt.Sprintf("%s:%d:%d", pathText(file), line, column)
}

// pathText returns the path of a file as printable text. Compilers accept any
// name.
func pathText(file *protogen.File) string {
	return printable.Text(file.Desc.Path())
}

// A position is the place of a problem in a proto file: a service, a method, or
// a field in the option of a service or a method.
type position struct {
	problems *problems
	file     *protogen.File
	owner    protoreflect.FullName // the service or method
	element  protoreflect.SourcePath
	option   protoreflect.SourcePath // path below element; empty for the element itself
	message  protoreflect.MessageDescriptor
	field    string // the option's field as options.proto spells it: "retry.codes"
}

// at returns the position of one of our options on the service or method at p.
func (p position) at(option protoreflect.ExtensionTypeDescriptor) position {
	// the number of the field "options" in a method's descriptor, which has the
	// path (6, i, 2, j)
	options := int32(4)
	if len(p.element) == 2 {
		options = 3 // in a service's descriptor
	}

	p.option = protoreflect.SourcePath{options, int32(option.Number())}
	p.message = option.Message()

	return p
}

// in returns the position of a field of the message at p.
func (p position) in(field protoreflect.Name) position {
	fd := p.message.Fields().ByName(field)
	if fd == nil {
		panic(fmt.Sprintf("%s has no field %s", p.message.FullName(), field))
	}

	p = p.below(int32(fd.Number()))
	p.message = fd.Message()
	p.field = strings.TrimPrefix(p.field+"."+string(field), ".")

	return p
}

// fault reports a fault of a field below the message at p. The report has the
// names that proto files use: policy replaces the gRPC name of each picking
// policy.
func (p position) fault(f *serviceconfig.Fault, policy string) {
	at, field := p.follow(f.Path)
	text := faultText(f, field)
	for _, known := range serviceconfig.Picking {
		text = strings.ReplaceAll(text, strconv.Quote(known.Name), policy)
	}

	message := p.message
	if field != nil {
		message = field.ContainingMessage()
	}

	at.problem("%s", outsideQuotes(text, func(text string) string {
		return protoNames(text, message.Fields())
	}))
}

// follow returns the position at the end of a path in a service config, and the
// last field on the path, nil if the path has no fields.
func (p position) follow(path []string) (at position, last protoreflect.FieldDescriptor) {
	// where options and service configs differ
	names := map[string]string{"retryPolicy": "retry", "retryableStatusCodes": "codes"}

	at = p
	for _, step := range path {
		if i, err := strconv.Atoi(strings.Trim(step, "[]")); err == nil {
			at = at.below(int32(i))
			continue
		}

		field := at.message.Fields().ByJSONName(cmp.Or(names[step], step))
		if field == nil {
			continue // step is a key of a map: a key has the map's position
		}

		at = at.in(field.Name())
		last = field
	}

	return at, last
}

// faultText returns what is wrong with a field and, if the fault says what it
// wants, the cure.
func faultText(f *serviceconfig.Fault, field protoreflect.FieldDescriptor) string {
	if f.Want == "" {
		return f.Text
	}

	fault := "is " + f.Got

	switch {
	case f.Missing && (field.HasPresence() || field.IsList()):
		fault = "is missing"
	case f.Missing:
		fault = "is missing or 0"
	case field.Kind() == protoreflect.MessageKind: // a duration
		fault = "is " + strings.Trim(f.Got, `"`)
	}

	return fault + ": give it " + f.Want
}

// protoNames replaces the JSON names of fields by their names in proto files.
func protoNames(text string, fields protoreflect.FieldDescriptors) string {
	for i := range fields.Len() {
		field := fields.Get(i)
		text = strings.ReplaceAll(text, field.JSONName(), string(field.Name()))
	}

	return text
}

// outsideQuotes applies change to the parts of text that are not quoted. Quoted
// parts come from the user.
func outsideQuotes(text string, change func(string) string) string {
	var b strings.Builder
	for text != "" {
		plain, _, _ := strings.Cut(text, `"`)
		text = text[len(plain):]

		quoted, err := strconv.QuotedPrefix(text)
		if err != nil { // the rest has no quotes, or an unclosed one
			quoted = text
		}

		b.WriteString(change(plain) + quoted)
		text = text[len(quoted):]
	}

	return b.String()
}

// below returns the position of a part of the message or list at p: of a field
// by its number, or of an element by its index.
func (p position) below(part int32) position {
	p.option = append(slices.Clip(p.option), part)
	return p
}

// problem reports a problem and its cure. The report begins with the names of
// the service or method and of the field.
func (p position) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.field != "" {
		text = p.field + " " + text
	}

	line, column := p.lineColumn()
	p.problems.list = append(p.problems.list,
		problem{p.file, line, column, string(p.owner) + ": " + text})
}

// String formats the position for a problem that is reported at another
// position.
func (p position) String() string {
	line, column := p.lineColumn()
	return fmt.Sprintf("%s (%s)", p.owner, formatPosition(p.file, line, column))
}

// lineColumn returns the line and column, counted from 1, or zeros if they are
// unknown. Compilers locate the fields that an option statement names, and some
// compilers also fields inside its braces. Other fields get the location of
// their statement.
func (p position) lineColumn() (line, column int) {
	places := p.problems.placesIn(p.file)
	for n := len(p.option); n >= 2; n-- {
		path := append(slices.Clip(p.element), p.option[:n]...)
		if line, column := exactly(p.file, path); line != 0 {
			return line, column
		}

		if place, ok := places[pathKey(path)]; ok {
			return place.line, place.column
		}
	}

	return exactly(p.file, p.element)
}

func exactly(file *protogen.File, path protoreflect.SourcePath) (line, column int) {
	location := file.Desc.SourceLocations().ByPath(path)
	if location.Path == nil {
		return 0, 0
	}

	return location.StartLine + 1, location.StartColumn + 1
}

// places maps a path in a file's services to the place of the first element
// below the path.
type places map[string]place

type place struct{ line, column int }

// placesIn returns the places in a file. They are collected once, because a
// file may have thousands of problems.
func (p *problems) placesIn(file *protogen.File) places {
	if found := p.places[file]; found != nil {
		return found
	}

	found := places{}
	locations := file.Desc.SourceLocations()
	for i := range locations.Len() {
		location := locations.Get(i)
		if len(location.Path) > 0 && location.Path[0] == servicesField {
			found.add(location)
		}
	}

	if p.places == nil {
		p.places = map[*protogen.File]places{}
	}

	p.places[file] = found

	return found
}

// servicesField is the number of the services in the descriptor of a file.
const servicesField = 6

// add records the location for each path above its own, unless an earlier
// location is recorded there.
func (f places) add(location protoreflect.SourceLocation) {
	at := place{location.StartLine + 1, location.StartColumn + 1}
	for n := range location.Path {
		key := pathKey(location.Path[:n])
		first, found := f[key]
		earlier := at.line < first.line ||
			at.line == first.line && at.column < first.column
		if !found || earlier {
			f[key] = at
		}
	}
}

// pathKey returns a path as a map key.
func pathKey(path protoreflect.SourcePath) string {
	key := make([]byte, 0, 4*len(path))
	for _, n := range path {
		key = binary.BigEndian.AppendUint32(key, uint32(n))
	}

	return string(key)
}
