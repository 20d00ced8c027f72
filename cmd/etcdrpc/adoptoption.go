package main

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// option returns the option for the proto file, "" if there can be none.
func (p *proposal) option() string {
	if p.layout.IsZero() || p.keyErr() != nil {
		return ""
	}
	var out strings.Builder
	fmt.Fprintf(&out, "option (etcd.discovery.v1.service) = {\n  key: %q\n", p.key)
	switch {
	case p.isMapped():
		out.WriteString("  json_layout: {\n")
		for option, name := range p.homeMade.fields.All {
			fmt.Fprintf(&out, "    %s: %q\n", option, name)
		}
		out.WriteString("  }\n")
	case p.layout != endpoint.EndpointJSON && p.layout != endpoint.Dubbo:
		fmt.Fprintf(&out, "  layout: LAYOUT_%s\n", strings.ToUpper(p.layout.String()))
	}
	if p.authority != "" {
		fmt.Fprintf(&out, "  authority: %q\n", p.authority)
	}
	out.WriteString("};\n")
	return out.String()
}

// keyErr returns why no option can name the key.
func (p *proposal) keyErr() error {
	if len(p.key) > maxText {
		return fmt.Errorf("the key has %d bytes, too many for an option", len(p.key))
	}
	return endpoint.CheckKey(p.key)
}

// suggestAuthority returns a host made of a key. It is not one of taken, and is added there.
func suggestAuthority(key string, taken map[string]bool) string {
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
	for n := 2; taken[servicekey.TLSName("", name)]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
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
