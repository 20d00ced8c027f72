package liveconfig

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// TooDeep reports whether JSON nests deeper than a live config may. Written over several lines, such JSON
// would grow to hundreds of megabytes of spaces.
func TooDeep(text []byte) bool {
	return rawjson.Depth(text, serviceconfig.MaxDepth) > serviceconfig.MaxDepth
}

// AsJSON returns text as a part of JSON: as it is or, where it is none or nests too deep, as a string.
func AsJSON(text string) any {
	if !TooDeep([]byte(text)) && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

// Check returns why no client would go by a live policy. Which policies a client links is not
// known here: all that generated code may name are accepted.
func Check(text string) error {
	_, err := serviceconfig.ParseLive(text)
	return err
}

// Pretty returns JSON for people, with the fields of objects in the order of their names, so that two texts that say
// the same look the same. Text that is not JSON, or has a field twice, is returned escaped, on one line: clients refuse
// it, so it says the same as no other.
func Pretty(text []byte) string {
	if out, ok := rewritten(text, "  "); ok {
		return out
	}
	return printable.Text(string(text))
}

// rewritten returns JSON with the fields of objects in the order of their names. ok is false for text that is not JSON or nests too
// deep.
func rewritten(text []byte, indent string) (_ string, ok bool) {
	if TooDeep(text) || !utf8.Valid(text) || !json.Valid(text) {
		return "", false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", false
	}
	out, err := output.Marshal(v, indent)
	return string(out), err == nil
}
