package generator

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// referencePath is the page for users that is made of options.proto.
const referencePath = "../../docs/options.md"

// TestOptionsReference says that docs/options.md has what the comments of options.proto
// say.
func TestOptionsReference(t *testing.T) {
	files := sources{}
	files.readDir(t, filepath.Join(protoDir, filepath.Dir(optionsProto)), filepath.Dir(optionsProto))
	plugin, err := protogen.Options{}.New(files.compile(t, everyField, ""))
	if err != nil {
		t.Fatal(err)
	}
	want := reference(plugin.FilesByPath[optionsProto])
	if *update {
		if err := os.WriteFile(referencePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/options.md is not up to date; run `make golden` (-want +got):\n%s", diff)
	}
}

// TestOptionsAreDescribed says that each field of LoadBalancing is an option of the policy "etcd", but for those that are
// policies, and that the options that are not there are those of live configs alone.
func TestOptionsAreDescribed(t *testing.T) {
	fields := new(discoveryv1.LoadBalancing).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if o := serviceconfig.OptionNamed(field.JSONName()); o == nil && field.ContainingOneof() == nil && field.Name() != "outlier_detection" {
			t.Errorf("%s is not described", field.Name())
		}
	}
	for _, o := range serviceconfig.Options {
		field := fields.ByName(protoreflect.Name(o.Proto()))
		if o.LiveOnly != (field == nil) || field != nil && field.JSONName() != o.Name {
			t.Errorf("%s is %q in a proto file, and the field there is %v", o.Name, o.Proto(), field)
		}
	}
}

// A page is Markdown in the making.
type page struct{ strings.Builder }

// reference returns the page: the file's comment, the two options, and a section for
// each message and enum in the file's order.
func reference(file *protogen.File) string {
	var p page
	p.WriteString("# Options in proto files\n\n")
	p.WriteString("<!-- Made of " + optionsProto + " by `make golden`: change that file instead. -->\n")
	packagePath := protoreflect.SourcePath{2}
	p.text("", file.Desc.SourceLocations().ByPath(packagePath).LeadingComments)
	p.WriteString("\n## The two options\n\n")
	for _, extension := range file.Extensions {
		p.item("", fmt.Sprintf("`(%s)`", extension.Desc.FullName()), kind(extension), extension.Comments.Leading)
	}
	for _, message := range file.Messages {
		p.section(message.Desc.Name(), message.Comments.Leading)
		p.fields(message)
		if message.Desc.Name() == "ServiceOptions" { // where the first enum is in the file
			p.enum(file.Enums[0])
		}
	}
	for _, enum := range file.Enums[1:] {
		p.enum(enum)
	}
	return p.String()
}

func (p *page) section(name protoreflect.Name, comment protogen.Comments) {
	p.WriteString("\n## " + string(name) + "\n")
	p.text("", string(comment))
}

// fields lists those of a message. A oneof is one item, and its members are items in it.
func (p *page) fields(message *protogen.Message) {
	if len(message.Fields) > 0 {
		p.WriteString("\n")
	}
	for _, field := range message.Fields {
		if oneof := field.Oneof; oneof == nil || oneof.Desc.IsSynthetic() {
			p.item("", code(field.Desc.Name()), kind(field), field.Comments.Leading)
			p.live(field)
		} else if oneof.Fields[0] == field {
			p.item("", "One of these", "", oneof.Comments.Leading)
			for _, member := range oneof.Fields {
				p.item("  ", code(member.Desc.Name()), kind(member), member.Comments.Leading)
			}
		}
	}
}

// live says what a live config may hold of a field that is described as an option.
func (p *page) live(field *protogen.Field) {
	if o := serviceconfig.OptionNamed(field.Desc.JSONName()); o != nil && field.Parent.Desc.Name() == "LoadBalancing" {
		p.WriteString("\n  Live: " + o.Rule() + ".\n")
	}
}

func (p *page) enum(enum *protogen.Enum) {
	p.section(enum.Desc.Name(), enum.Comments.Leading)
	p.WriteString("\n")
	for _, value := range enum.Values {
		p.item("", code(value.Desc.Name()), "", value.Comments.Leading)
	}
}

// item writes one of a list.
func (p *page) item(indent, name, kind string, comment protogen.Comments) {
	p.WriteString(indent + "- **" + name + "**")
	if kind != "" {
		p.WriteString(" (" + kind + ")")
	}
	if comment == "" {
		p.WriteString("\n")
	}
	p.text(indent+"  ", string(comment))
}

// kind says what a field holds, with a link to what has a section.
func kind(field *protogen.Field) string {
	name := field.Desc.Kind().String()
	switch {
	case field.Desc.IsMap():
		return fmt.Sprintf("map of %v to %v", field.Desc.MapKey().Kind(), field.Desc.MapValue().Kind())
	case field.Message != nil && field.Message.Desc.FullName() == "google.protobuf.Duration":
		name = "duration"
	case field.Message != nil:
		name = link(field.Message.Desc.Name())
	case field.Enum != nil:
		name = link(field.Enum.Desc.Name())
	}
	if field.Desc.IsList() {
		name = "repeated " + name
	}
	return name
}

func link(name protoreflect.Name) string {
	return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(string(name)))
}

func code(name protoreflect.Name) string { return "`" + string(name) + "`" }

// identifier is what has an underscore in it, and would be emphasis in Markdown.
var identifier = regexp.MustCompile(`"?\w*_\w+"?`)

func markIdentifiers(line string) string {
	return identifier.ReplaceAllStringFunc(line, func(name string) string { return "`" + strings.Trim(name, `"`) + "`" })
}

// text writes a comment, with empty lines around what is indented in it: code. Within an
// item its first line goes on after the item's name.
func (p *page) text(indent, comment string) {
	before := "\n" // what goes before the next line of text
	if indent != "" {
		before = ". "
	}
	var block []string // lines of code
	for line := range strings.Lines(comment + "\n\n") {
		line = strings.TrimSuffix(strings.TrimPrefix(line, " "), "\n")
		switch {
		case strings.HasPrefix(line, "buf:lint:"):
		case strings.HasPrefix(line, "  "):
			block = append(block, indent+line[2:])
		case line == "" && len(block) > 0:
			block = append(block, "")
		case line == "":
			before = "\n" + indent
		default:
			p.block(indent, block)
			block = nil
			p.WriteString(before + markIdentifiers(line) + "\n")
			before = indent
		}
	}
	p.block(indent, block)
}

// block writes lines of code, but for empty ones at the end.
func (p *page) block(indent string, lines []string) {
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n")
	if text != "" {
		p.WriteString("\n" + indent + "```\n" + text + "\n" + indent + "```\n")
	}
}
