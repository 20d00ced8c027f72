package endpointfile

import (
	"encoding/json"
	"os"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// FuzzLoad loads a file that holds any text, and ones with any list of endpoints, or any live config, whose checksum is right.
// What is loaded is saved, and loaded again, as it is.
func FuzzLoad(f *testing.F) {
	dir := f.TempDir()
	s := source("acme/user/")
	if err := Save(dir, s, Snapshot{[]endpoint.Endpoint{{Instance: "a", Addr: "10.0.0.1:9000", Version: "v2", Weight: 3}}, `{"a":["<"]}`, time.Unix(1e9, 0)}); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(s.path(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, list := range []string{
		`[]`, `null`, `[{"instance":"a","addr":"10.0.0.1:9000","version":"v","zone":"z","weight":3,"metadata":{"k":"é"}}]`,
		`[{"addr":"h:1"},{"addr":"unix:1"}]`, `[{"addr":"h"}]`, `[null]`, `[{"ADDR":"[::1]:1","weight":-1}]`, `{"format":2}`, "[{\"addr\":\"h:1\",\"zone\":\"\xff\"}]",
	} {
		f.Add([]byte(list))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		checkLoads(t, s, text)
		if !json.Valid(text) {
			return
		}
		compact, err := json.Marshal(json.RawMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		const list = `[{"instance":"a","addr":"10.0.0.1:9000"}]`
		for _, content := range [][2]string{{"", string(compact)}, {string(compact), list}} {
			file := map[string]any{
				"format": format, "cluster": s.cluster(), "members": s.members(), "range": s.Range, "saved": time.Unix(1e9, 0),
				"sha256": sum([]byte(content[0]), []byte(content[1])), "endpoints": json.RawMessage(content[1]),
			}
			if content[0] != "" {
				file["live_config"] = json.RawMessage(content[0])
			}
			whole, err := json.Marshal(file)
			if err != nil {
				t.Fatal(err)
			}
			checkLoads(t, s, whole)
		}
	})
}

func checkLoads(t *testing.T, s Source, text []byte) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(s.path(dir), text, 0o644); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(dir, away(s))
	if err != nil {
		return
	}
	for _, e := range loaded.Endpoints {
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			t.Fatalf("loaded %+v: %v", e, err)
		}
		if !utf8.ValidString(e.Instance + e.Version + e.Zone) {
			t.Fatalf("loaded %+v", e)
		}
	}
	if err := Save(dir, s, loaded); err != nil {
		t.Fatalf("loaded %+v, which cannot be saved: %v", loaded, err)
	}
	if escaped, err := json.Marshal(json.RawMessage(loaded.Live)); err == nil {
		loaded.Live = string(escaped) // as it is saved
	}
	if got, err := Load(dir, away(s)); err != nil || !got.equal(loaded) {
		t.Fatalf("loaded %+v, saved and loaded %+v, %v", loaded, got, err)
	}
}
