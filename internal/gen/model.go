package gen

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// A service is a proto service with the service option.
type service struct {
	proto    *protogen.Service
	file     *protogen.File
	options  *discoveryv1.ServiceOptions
	methods  []*method // with the method option, in the file's order
	position position  // of the service
	option   position  // of the service option
	newer    bool      // the options have fields that this plugin does not know

	// the gRPC service config, which checkService builds from the options;
	// valid if the options have no problem
	config serviceconfig.Config
}

// A method is a proto method with the method option.
type method struct {
	proto   *protogen.Method
	options *discoveryv1.MethodOptions
	option  position // of the method option
}

// A reader reads the options of files.
type reader struct {
	ours     bool // the request declares our options
	others   bool // the request declares another project's options with our numbers
	problems *problems
}

// readServices returns the services with the option, by file.
func readServices(
	plugin *protogen.Plugin,
	problems *problems,
) map[*protogen.File][]*service {
	services := make(map[*protogen.File][]*service)
	reader := newReader(plugin.Request.GetProtoFile(), problems)
	for _, file := range plugin.Files {
		if found := reader.read(file); len(found) > 0 {
			services[file] = found
		}
	}

	return services
}

// read returns the services of a file that have the option. A method option
// without a service option is a problem in a file to generate.
func (r *reader) read(file *protogen.File) []*service {
	var services []*service
	for _, s := range file.Services {
		at := positionOf(r.problems, file, s.Desc, s.Location)
		methods := r.readMethods(file, s)
		options, found := r.parseOption(at, s.Desc.Options(), discoveryv1.E_Service)
		if options != nil {
			services = append(services, &service{
				proto:    s,
				file:     file,
				options:  options.(*discoveryv1.ServiceOptions),
				methods:  methods,
				position: at,
				option:   at.at(discoveryv1.E_Service.TypeDescriptor()),
			})

			continue
		}

		if found || !file.Generate {
			continue
		}

		for _, m := range methods {
			m.option.problem("has the option (%s), but its service %s has no (%s): give the service one, or the method none",
				discoveryv1.E_Method.TypeDescriptor().FullName(),
				s.Desc.FullName(),
				discoveryv1.E_Service.TypeDescriptor().FullName())
		}
	}

	return services
}

func (r *reader) readMethods(file *protogen.File, s *protogen.Service) []*method {
	var methods []*method
	for _, m := range s.Methods {
		at := positionOf(r.problems, file, m.Desc, m.Location)
		options, _ := r.parseOption(at, m.Desc.Options(), discoveryv1.E_Method)
		if options != nil {
			methods = append(methods, &method{
				proto:   m,
				options: options.(*discoveryv1.MethodOptions),
				option:  at.at(discoveryv1.E_Method.TypeDescriptor()),
			})
		}
	}

	return methods
}

func positionOf(
	problems *problems,
	file *protogen.File,
	desc protoreflect.Descriptor,
	location protogen.Location,
) position {
	return position{
		problems: problems,
		file:     file,
		owner:    desc.FullName(),
		element:  location.Path,
	}
}

// layout returns the value of the option layout, or its default.
func (s *service) layout() discoveryv1.Layout {
	return cmp.Or(s.options.GetLayout(), discoveryv1.Layout_LAYOUT_ENDPOINT_JSON)
}

// grpcIdent returns the identifier of a name that protoc-gen-go-grpc declares
// for the service.
func (s *service) grpcIdent(name string) protogen.GoIdent {
	return s.file.GoImportPath.Ident(name)
}

// jsonLayout returns the fields of the service's JSON layout, the zero value if
// it has none.
func (s *service) jsonLayout() endpoint.JSONFields {
	l := s.options.GetJsonLayout()

	return endpoint.JSONFields{
		Addr:     l.GetAddr(),
		Host:     l.GetHost(),
		Port:     l.GetPort(),
		Instance: l.GetInstance(),
		Version:  l.GetVersion(),
		Zone:     l.GetZone(),
		Weight:   l.GetWeight(),
		Metadata: l.GetMetadata(),
		Name:     l.GetName(),
	}
}

// layoutText returns the layout in force, as the options spell it.
func (s *service) layoutText() string {
	if s.options.GetJsonLayout() != nil {
		return s.jsonLayout().String()
	}

	return s.layout().String()
}

// layoutPosition returns the position of the option that sets the layout.
func (s *service) layoutPosition() position {
	if s.options.GetJsonLayout() != nil {
		return s.option.in("json_layout")
	}

	return s.option.in("layout")
}

// withAffinity returns the methods with an affinity, in the file's order.
func (s *service) withAffinity() []*method {
	return slices.DeleteFunc(slices.Clone(s.methods), func(m *method) bool {
		return m.options.GetAffinity() == ""
	})
}
