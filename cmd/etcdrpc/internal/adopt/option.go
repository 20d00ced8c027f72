package adopt

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// Option returns the option for the proto file, "" if there can be none.
func (p *Proposal) Option() string {
	if p.Layout.IsZero() || p.keyErr() != nil {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "option (etcd.discovery.v1.service) = {\n  key: %q\n", p.Key)
	switch {
	case p.IsMapped():
		out.WriteString("  json_layout: {\n")
		for option, name := range p.homeMade.Fields.All {
			fmt.Fprintf(&out, "    %s: %q\n", option, name)
		}
		out.WriteString("  }\n")
	case p.Layout != endpoint.EndpointJSON && p.Layout.Written():
		fmt.Fprintf(&out, "  layout: LAYOUT_%s\n", strings.ToUpper(p.Layout.String()))
	}
	if p.Authority != "" {
		fmt.Fprintf(&out, "  authority: %q\n", p.Authority)
	}
	out.WriteString("};\n")
	return out.String()
}

// keyErr returns why no option can name the key.
func (p *Proposal) keyErr() error {
	if len(p.Key) > output.MaxText {
		return fmt.Errorf("the key has %d bytes, too many for an option", len(p.Key))
	}
	return endpoint.CheckKey(p.Key)
}

// suggestAuthority returns a host made of a key. It is not one of taken, and is added there. numbers are the last that hosts have got.
func suggestAuthority(key string, taken map[string]bool, numbers map[string]int) string {
	var labels []string
	for segment := range strings.SplitSeq(strings.TrimPrefix(key, "/"), "/") {
		label := strings.Trim(strings.Map(hostRune, segment), "-._")
		label = strings.Trim(label[:min(len(label), 40)], "-._")
		if label != "" && !strings.Contains(label, "..") && !strings.Contains(label, ".-") && !strings.Contains(label, "-.") {
			labels = append(labels, label)
		}
	}
	base := strings.Join(labels[max(0, len(labels)-4):], ".")
	if servicekey.CheckAuthority(base) != nil {
		base = "service"
	}
	name := base
	for taken[servicekey.TLSName("", name)] {
		numbers[base]++
		name = fmt.Sprintf("%s-%d", base, numbers[base]+1)
	}
	taken[servicekey.TLSName("", name)] = true
	return name
}

// hostRune returns the character of a host that stands for one of a key.
func hostRune(r rune) rune {
	if r < 0x80 && servicekey.IsHostByte(byte(r)) {
		return r
	}
	return '-'
}
