package docs

import (
	"testing"

	"sigs.k8s.io/yaml"
)

func TestYAML(t *testing.T) {
	for _, b := range all(t, "yaml") {
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(b.text), &content); err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}
	}
}
