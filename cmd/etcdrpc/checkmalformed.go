package main

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// malformed tells of an entry that no client can read. Its remedy never deletes what lives.
func (p *patient) malformed(s *service, i *instance) finding {
	key := p.full(i.entry.key)
	problem, fix := "no client can read the entry", "find out who writes it and have that write a layout of docs/layouts.md"
	if writer := writerOf(s.key, i.entry); writer != "" {
		problem += ", which " + strings.TrimSuffix(writer, ",") + " seems to write"
		fix = "if gRPC clients are to call it, have its server serve gRPC and write what they read (docs/layouts.md)"
	}
	switch {
	case p.stale[i.entry.lease]:
		fix += "; nobody renews its lease, with which it goes"
	case i.entry.lease != 0:
		fix += "; it is on a lease, so it goes by itself when its writer is dead"
	default:
		fix += p.deletion(i, "; if nobody writes it any more")
	}
	return finding{kindMalformed, []string{key}, problem + ": " + i.err.Error(), fix}
}

// deletion advises to delete an entry without a lease on a condition, unless its server lives. "" means that it does.
func (p *patient) deletion(i *instance, condition string) string {
	if addr := addressOf(i); p.probed && addr != "" && p.dead[addr] == nil {
		return ""
	}
	return fmt.Sprintf("%s: etcdctl del %s", condition, shell(p.full(i.entry.key)))
}

// addressOf returns the address of an entry, or the first that is seen in one that clients cannot read, "" for none.
func addressOf(i *instance) string {
	if i.err == nil {
		return i.Addr
	}
	if addr := addressIn(unescaped(i.Instance)); addr != "" {
		return addr
	}
	if addr := addressIn(string(i.entry.value)); addr != "" || !isObject(i.entry.value) {
		return addr
	}
	for _, l := range leavesOf(i.entry.value) {
		if addr := addressIn(rawjson.Text(l.value)); addr != "" {
			return addr
		}
	}
	fields, ok := columnsOf([][]byte{i.entry.value}).address()
	if !ok || fields.Host == "" {
		return ""
	}
	var host, port string
	rawjson.Members(i.entry.value, func(name, value []byte) bool {
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
	if !isAddress(text) {
		return ""
	}
	return text
}
