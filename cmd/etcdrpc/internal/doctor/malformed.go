package doctor

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// malformed returns the finding for an entry that no client can read. Its remedy never deletes what lives.
func (p *patient) malformed(s *survey.Service, i *survey.Instance) Finding {
	key := p.full(i.Entry.Key)
	problem, fix := "no client can read the entry", "find out who writes it and have that write a layout of docs/layouts.md"
	if writer := survey.WriterOf(s.Key, i.Entry); writer != "" {
		problem += ", which " + strings.TrimSuffix(writer, ",") + " seems to write"
		fix = "if gRPC clients are to call it, have its server serve gRPC and write what they read (docs/layouts.md)"
	}
	switch {
	case p.stale[i.Entry.Lease]:
		fix += "; nobody renews its lease, with which it goes"
	case i.Entry.Lease != 0:
		fix += "; it is on a lease, so it goes by itself when its writer is dead"
	default:
		fix += p.deletion(i, "; if nobody writes it any more")
	}
	return newFinding(KindMalformed, []string{key}, problem+": "+i.Err.Error(), fix)
}

// deletion advises to delete an entry without a lease on a condition, unless its server lives. "" means that it does.
func (p *patient) deletion(i *survey.Instance, condition string) string {
	if addr := addressOf(i); p.probed && addr != "" && p.dead[addr] == nil {
		return ""
	}
	return fmt.Sprintf("%s: etcdctl del %s", condition, output.Shell(p.full(i.Entry.Key)))
}

// addressOf returns the address of an entry, or the first that is seen in one that clients cannot read, "" for none.
func addressOf(i *survey.Instance) string {
	if i.Err == nil {
		return i.Addr
	}
	if addr := addressIn(survey.Unescaped(i.Instance)); addr != "" {
		return addr
	}
	if addr := addressIn(string(i.Entry.Value)); addr != "" || !survey.IsObject(i.Entry.Value) {
		return addr
	}
	for _, l := range survey.LeavesOf(i.Entry.Value) {
		if addr := addressIn(rawjson.Text(l.Value)); addr != "" {
			return addr
		}
	}
	fields, ok := survey.AddressFields(i.Entry.Value)
	if !ok || fields.Host == "" {
		return ""
	}
	var host, port string
	rawjson.Members(i.Entry.Value, func(name, value []byte) bool {
		switch string(name) {
		case fields.Host:
			host = rawjson.Text(value)
		case fields.Port:
			port = rawjson.Text(value)
		}
		return true
	})
	return addressIn(host + ":" + port)
}

// addressIn returns the address that a text is, or begins with as a URL does, "" for none.
func addressIn(text string) string {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		text = rest
	}
	if end := strings.IndexAny(text, "/?,#"); end >= 0 {
		text = text[:end]
	}
	if !survey.IsAddress(text) {
		return ""
	}
	return text
}
