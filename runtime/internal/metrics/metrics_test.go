package metrics

import (
	"runtime/debug"
	"testing"
)

func TestVersionIn(t *testing.T) {
	other := &debug.Module{Path: "example.com/other", Version: "v3.0.0"}
	for name, tt := range map[string]struct {
		info debug.BuildInfo
		want string
	}{
		"a dependency":          {debug.BuildInfo{Deps: []*debug.Module{other, {Path: module, Version: "v1.2.3"}}}, "v1.2.3"},
		"the main module":       {debug.BuildInfo{Main: debug.Module{Path: module, Version: "v1.2.3"}}, "v1.2.3"},
		"replaced by a fork":    {debug.BuildInfo{Deps: []*debug.Module{{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.4"}}}}, "v1.2.4"},
		"replaced by directory": {debug.BuildInfo{Deps: []*debug.Module{{Path: module, Version: "v1.2.3", Replace: &debug.Module{Path: "../"}}}}, devel},
		"not there":             {debug.BuildInfo{Deps: []*debug.Module{other}}, devel},
	} {
		if got := versionIn(&tt.info); got != tt.want {
			t.Errorf("%s: versionIn = %q, want %q", name, got, tt.want)
		}
	}
}
