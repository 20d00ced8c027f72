package main

import (
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this command",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.running = true
			v := versionJSON{Version: "(unknown)", Go: runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				v.Version = info.Main.Version
			}
			return output.Show(cmd.OutOrStdout(), a.output, v, func(out io.Writer) { output.Sayf(out, "etcdrpc %s (%s)\n", v.Version, v.Go) })
		},
	}
}

type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}
