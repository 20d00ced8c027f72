package main

import (
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
			if a.output == output.FormatJSON {
				return output.WriteJSON(cmd.OutOrStdout(), v)
			}
			output.Sayf(cmd.OutOrStdout(), "etcdrpc %s (%s)\n", v.Version, v.Go)
			return nil
		},
	}
}

type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}
